#![expect(clippy::unwrap_used, reason = "tests")]

use datafusion::arrow::array::StringArray;

use super::*;

fn present(columns: &[&str]) -> BTreeSet<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn every_column() -> BTreeSet<String> {
    let schema = crate::columns::schema(&BTreeSet::new());
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

fn text(filter: &Filter, times: Times) -> String {
    let condition = condition(filter, times, &every_column()).unwrap();
    condition.map_or(String::new(), |condition| condition.to_string())
}

#[test]
fn nothing_asked_is_no_condition() {
    assert_eq!(text(&Filter::default(), Times::default()), "");
}

#[test]
fn values_of_an_option_are_alternatives_and_options_are_not() {
    let mut filter = Filter::default();
    for word in ["443", "53", "tcp", "reject"] {
        filter.add_word(word).unwrap();
    }
    let times = Times {
        since: Some(5),
        until: Some(9),
    };
    let expected = "(srcport = Int32(443) OR dstport = Int32(443) OR srcport = Int32(53) \
                    OR dstport = Int32(53)) AND protocol = Int32(6) AND action = Utf8(\"REJECT\") \
                    AND end >= Int64(5) AND start < Int64(9)";
    assert_eq!(
        text(&filter, times).replace(['(', ')'], ""),
        expected.replace(['(', ')'], "")
    );
}

#[test]
fn values_are_literals_whatever_they_contain() {
    let task = "x-or-1-1--";
    let filter = Filter {
        tasks: vec![task.parse().unwrap()],
        ..Filter::default()
    };
    let expression = condition(&filter, Times::default(), &every_column()).unwrap();
    let expected = ["bl_task_id", "ecs_task_id"].map(|name| ident(name).eq(lit(task)));
    assert_eq!(expression, expected.into_iter().reduce(Expr::or));
    for word in ["' OR 1=1", "web'; DROP TABLE flows"] {
        assert!(word.parse::<branchline::spec::TaskId>().is_err(), "{word}");
    }
}

#[test]
fn an_option_needs_a_column_and_says_which() {
    let mut filter = Filter::default();
    filter.add_word("web").unwrap();
    let error = condition(&filter, Times::default(), &present(&["srcaddr"])).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("no file has bl_task_id or ecs_task_id, which --task needs; write"),
        "{said}"
    );
    assert!(condition(&filter, Times::default(), &present(&["ecs_task_id"])).is_ok());
    filter.add_word("audit").unwrap();
    let error = condition(&filter, Times::default(), &every_column()).unwrap_err();
    assert_eq!(error, ConditionError::Audit);
}

#[test]
fn addresses_are_of_networks() {
    let addresses: ArrayRef = Arc::new(StringArray::from(vec![
        Some("10.0.1.5"),
        Some("10.1.0.0"),
        Some("fd00::5"),
        Some("no address"),
        None,
    ]));
    for (network, expected) in [
        (
            "10.0.0.0/16",
            [Some(true), Some(false), Some(false), None, None],
        ),
        (
            "10.1.0.0",
            [Some(false), Some(true), Some(false), None, None],
        ),
        (
            "fd00::/8",
            [Some(false), Some(false), Some(true), None, None],
        ),
    ] {
        let networks: ArrayRef = Arc::new(StringArray::from(vec![network; 5]));
        let found = contains(&addresses, &networks).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{network}");
    }
    let networks: ArrayRef = Arc::new(StringArray::from(vec!["10.0.0"; 5]));
    let error = contains(&addresses, &networks).unwrap_err().to_string();
    assert!(error.contains("\"10.0.0\" is no network; write"), "{error}");
}
