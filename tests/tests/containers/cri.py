"""One request of the container runtime interface (CRI, runtime.v1) to containerd, as kubelet sends it.

cri.py SOCKET run NAME [ANNOTATION=VALUE ...]  starts a pod sandbox; prints its id and its addresses, a line each
cri.py SOCKET stop ID                          stops a pod sandbox
cri.py SOCKET remove ID                        removes it

Messages are written by hand with the field numbers of cri-api's api.proto: of its hundreds of fields these few matter.
"""

import sys

import grpc

SERVICE = "/runtime.v1.RuntimeService/"
PATIENCE = 60


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """A length-delimited field: text or an embedded message."""
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """Every field of a message, by number."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 2:
            length = number()
            found.setdefault(tag >> 3, []).append(message[at : at + length])
            at += length
        elif tag & 7 == 0:
            found.setdefault(tag >> 3, []).append(number())
        else:
            raise ValueError(f"wire type {tag & 7}")
    return found


def sandbox_config(name, annotations):
    metadata = field(1, name) + field(2, f"uid-{name}") + field(3, "shop")
    entries = [field(7, field(1, key) + field(2, value)) for key, value in annotations]
    return field(1, metadata) + field(2, name) + b"".join(entries) + field(8, b"")


def main():
    socket, command, argument, *rest = sys.argv[1:]
    with grpc.insecure_channel(f"unix://{socket}") as channel:

        def call(method, request):
            answer = channel.unary_unary(SERVICE + method)(request, timeout=PATIENCE, wait_for_ready=True)
            return fields(answer)

        if command == "run":
            annotations = [pair.split("=", 1) for pair in rest]
            sandbox = call("RunPodSandbox", field(1, sandbox_config(argument, annotations)))[1][0].decode()
            status = fields(call("PodSandboxStatus", field(1, sandbox))[1][0])
            network = fields(status[5][0])
            more = [fields(address)[1][0] for address in network.get(2, [])]
            print("\n".join([sandbox] + [address.decode() for address in network[1] + more]))
        elif command == "stop":
            call("StopPodSandbox", field(1, argument))
        elif command == "remove":
            call("RemovePodSandbox", field(1, argument))
        else:
            raise SystemExit(f"no such command: {command}")


main()
