"""Python stubs, generated from proto/ as an internal service would."""

import importlib
import os
import pathlib
import sys
import types

import grpc
import grpc_tools.protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def generate(folder):
    """The modules `message`, `service`, and `stub`, which connects one to an address. Made once a folder."""
    out = os.path.join(folder, "stubs")
    if not os.path.exists(out):
        os.makedirs(out)
        files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
        include = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{PROTO}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
        assert grpc_tools.protoc.main(arguments) == 0, "the protos do not compile"
        sys.path.insert(0, out)
    stubs = importlib.import_module("messagewebhook.v1.message_service_pb2_grpc")
    return types.SimpleNamespace(
        message=importlib.import_module("messagewebhook.v1.message_pb2"),
        service=importlib.import_module("messagewebhook.v1.message_service_pb2"),
        stub=lambda address: stubs.MessageServiceStub(grpc.insecure_channel(address)),
    )
