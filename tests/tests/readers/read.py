"""Reads files of flow-log rows by programs that others wrote and compares every value.

read.py engines FOLDER   DuckDB and PyArrow, text and Parquet
read.py s3 FOLDER        flowlogs-reader over an S3 of moto on loopback

Each folder below FOLDER has expected.json: the fields' names and types, and the rows' values, null
where there is none. The first difference is printed, and the exit code is 1.
"""

import gzip
import json
import logging
import os
import pathlib
import sys
from datetime import datetime, timedelta, timezone


def differ(what, expected, found):
    """Exits at the first row that differs; order counts."""
    if len(expected) != len(found):
        sys.exit(f"{what}: {len(found)} rows, not {len(expected)}")
    for number, (one, other) in enumerate(zip(expected, found)):
        if list(one) != list(other):
            sys.exit(f"{what}: row {number}:\n  found {list(other)}\n  not   {list(one)}")


def must(condition, what):
    if not condition:
        sys.exit(what)


def plain(path):
    """Words of the lines, split at single blanks, without the first line."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    must(data.endswith(b"\n") and b"\r" not in data, f"{path}: line ends")
    lines = data.decode().split("\n")[:-1]
    return [line.split(" ") for line in lines]


def typed(word, column_type):
    if word == "-":
        return None
    return word if column_type == "string" else int(word)


def engines(folder):
    import duckdb
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    expected = json.loads((folder / "expected.json").read_text())
    fields, rows = expected["fields"], expected["rows"]
    names = [name for name, _ in fields]
    # In Parquet, text that there is none of is "-".
    dashes = [
        ["-" if value is None and kind == "string" else value for value, (_, kind) in zip(row, fields)]
        for row in rows
    ]
    text, parquet = folder / "rows.log.gz", folder / "rows.log.parquet"

    lines = plain(text)
    must(lines[0] == names, f"{text}: names are {lines[0]}")
    words = [[typed(w, kind) for w, (_, kind) in zip(line, fields)] for line in lines[1:]]
    must(all(len(line) == len(names) for line in lines), f"{text}: words of a line")
    differ(f"{text}, split", rows, words)

    sql_types = {"int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR"}
    columns = {name: sql_types[kind] for name, kind in fields}
    csv = duckdb.sql(
        f"SELECT * FROM read_csv('{text}', auto_detect=false, columns={columns}, delim=' ', "
        "header=true, nullstr='-', quote='', escape='', compression='gzip', new_line='\\n')"
    )
    differ(f"{text}, DuckDB", rows, csv.fetchall())

    arrow_types = {"int32": pa.int32(), "int64": pa.int64(), "string": pa.string()}
    table = pyarrow.csv.read_csv(
        text,
        parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: arrow_types[kind] for name, kind in fields},
            null_values=["-"],
            strings_can_be_null=True,
        ),
    )
    must(table.column_names == names, f"{text}, PyArrow: names")
    differ(f"{text}, PyArrow", rows, list(zip(*(column.to_pylist() for column in table.columns))))

    underscored = [name.replace("-", "_") for name in names]
    relation = duckdb.sql(f"SELECT * FROM read_parquet('{parquet}')")
    must(relation.columns == underscored, f"{parquet}, DuckDB: names {relation.columns}")
    must(
        [str(t) for t in relation.types] == list(columns.values()),
        f"{parquet}, DuckDB: types {relation.types}",
    )
    differ(f"{parquet}, DuckDB", dashes, relation.fetchall())

    table = pq.read_table(parquet)
    must(table.schema.names == underscored, f"{parquet}, PyArrow: names")
    for field, (name, kind) in zip(table.schema, fields):
        must(field.type == arrow_types[kind] and field.nullable, f"{parquet}, PyArrow: {field}")
    differ(f"{parquet}, PyArrow", dashes, list(zip(*(column.to_pylist() for column in table.columns))))

    metadata = pq.ParquetFile(parquet).metadata
    said = metadata.metadata[b"branchline.format"].decode()
    must(said == expected["format"], f"{parquet}: format {said}")
    must(metadata.created_by.startswith("branchline version "), f"{parquet}: {metadata.created_by}")
    for index in range(metadata.num_columns):
        codec = metadata.row_group(0).column(index).compression
        must(codec == "GZIP", f"{parquet}: codec {codec}")
    return len(rows)


def on_s3(folder, client, number):
    import flowlogs_reader

    expected = json.loads((folder / "expected.json").read_text())
    bucket = f"bucket-{number}"
    client.create_bucket(Bucket=bucket)
    root = folder / "bucket"
    for path in sorted(root.rglob("*.log.*")):
        client.upload_file(str(path), bucket, str(path.relative_to(root)))
    start = datetime(2023, 11, 14, tzinfo=timezone.utc).replace(tzinfo=None)
    reader = flowlogs_reader.S3FlowLogsReader(
        f"{bucket}/my/logs",
        start_time=start,
        end_time=start + timedelta(days=1),
        boto_client=client,
    )
    names = [name.replace("-", "_") for name, _ in expected["fields"]]
    second = lambda time: int(time.replace(tzinfo=timezone.utc).timestamp())
    value = lambda record, name: (
        second(getattr(record, name)) if name in ("start", "end") else getattr(record, name)
    )
    found = [[value(record, name) for name in names] for record in reader]
    differ(f"{folder}, flowlogs-reader", expected["rows"], found)
    return len(found)


def s3(folders):
    os.environ.update(
        AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1"
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        return sum(on_s3(folder, client, number) for number, folder in enumerate(folders))
    finally:
        server.stop()


def main():
    how, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    must(folders, f"{folder} is empty")
    read = s3(folders) if how == "s3" else sum(engines(folder) for folder in folders)
    print(f"read.py {how}: {read} rows of {len(folders)} folders are as written")


main()
