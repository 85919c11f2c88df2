"""Compares the parameters that the stand-in takes with botocore's model of EC2: names, forms, and what is
required."""

import json
import sys

import botocore.session

FORMS = {"string": "Text", "integer": "Integer", "long": "Integer", "boolean": "Boolean"}


def wire_name(member):
    """The name of a member in a request, as botocore's EC2 serializer makes it."""
    if "queryName" in member.serialization:
        return member.serialization["queryName"]
    name = member.serialization.get("name")
    return name[:1].upper() + name[1:] if name else None


def leaves(shape, prefix, seen):
    """Each parameter below `shape`: its name, with N for a number, and its form."""
    if shape.type_name == "structure":
        if shape.name in seen:
            return
        for key, member in shape.members.items():
            name = wire_name(member) or key
            yield from leaves(member, f"{prefix}.{name}" if prefix else name, seen | {shape.name})
    elif shape.type_name == "list":
        yield from leaves(shape.member, f"{prefix}.N", seen)
    else:
        yield prefix, FORMS[shape.type_name]


ours = json.loads(sys.argv[1])
model = botocore.session.get_session().get_service_model("ec2")
wrong = []
for operation, parameters in ours.items():
    shape = model.operation_model(operation).input_shape
    theirs = dict(leaves(shape, "", frozenset()))
    for name, form in parameters.items():
        if theirs.get(name) != form.split()[0]:
            wrong.append(f"{operation}: {name} is {form} here and {theirs.get(name)} there")
    for key in shape.required_members:
        name = wire_name(shape.members[key]) or key
        forms = [form for ours, form in parameters.items() if ours.split(".")[0] == name]
        if not any(form.endswith("required") for form in forms):
            wrong.append(f"{operation}: {name} is required there and not here")
assert ours, "no operation"
assert not wrong, "\n".join(wrong)
