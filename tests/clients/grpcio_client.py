"""Python grpcio, with stubs generated from proto/ as an internal service would."""

import datetime
import importlib
import os
import pathlib
import sys

import grpc
import grpc_tools.protoc
import requests

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def checks(server, folder):
    out = os.path.join(folder, "stubs")
    os.makedirs(out)
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    include = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    assert grpc_tools.protoc.main(arguments) == 0, "the protos do not compile"
    sys.path.insert(0, out)
    message_pb2 = importlib.import_module("messagewebhook.v1.message_pb2")
    service_pb2 = importlib.import_module("messagewebhook.v1.message_service_pb2")
    stubs = importlib.import_module("messagewebhook.v1.message_service_pb2_grpc")
    stub = stubs.MessageServiceStub(grpc.insecure_channel(server.grpc))
    key = (("authorization", f"Bearer {server.key}"),)

    def request(sid, **fields):
        sent = service_pb2.SubmitMessageRequest(from_id="user_grpcio", message_sid=sid, **fields)
        sent.timestamp.FromDatetime(datetime.datetime(2024, 12, 18, 12, 0, 0, 250000))
        return sent

    def submit(sent, metadata=key):
        return stub.SubmitMessage(sent, metadata=metadata, timeout=20)

    def refused(call, code):
        try:
            call()
        except grpc.RpcError as error:
            assert error.code() == code, error
            return error
        raise AssertionError(f"not refused with {code}")

    def a_message_goes_in_once_and_comes_back_whole():
        sent = request("p1", message_body="", audio_url="https://example.com/voice.ogg?sig=1")
        first, second = submit(sent), submit(sent)
        assert first.outcome == service_pb2.SUBMIT_OUTCOME_ACCEPTED
        assert second.outcome == service_pb2.SUBMIT_OUTCOME_DUPLICATE and not second.payload_mismatch
        assert second.accepted_at == first.accepted_at
        found = stub.GetMessage(service_pb2.GetMessageRequest(message_sid="p1"), metadata=key, timeout=20).message
        assert (found.org_id, found.env) == ("acme", message_pb2.ENVIRONMENT_DEV)
        assert found.HasField("message_body") and found.message_body == ""
        assert found.WhichOneof("media") == "audio_url" and found.audio_url == sent.audio_url
        assert found.timestamp == sent.timestamp and found.accepted_at == first.accepted_at

    def the_same_message_over_http_and_grpc_is_one_message():
        body = {"from_id": "user_grpcio", "message_sid": "p2", "timestamp": "2024-12-18T12:00:00.25", "message_body": "a"}
        headers = {"Authorization": f"Bearer {server.key}"}
        assert requests.post(server.url(), json=body, headers=headers, timeout=20).json()["duplicate"] is False
        answer = submit(request("p2", message_body="a"))
        assert answer.outcome == service_pb2.SUBMIT_OUTCOME_DUPLICATE and not answer.payload_mismatch
        assert submit(request("p2", message_body="b")).payload_mismatch

    def a_request_id_comes_back_as_metadata():
        _, call = stub.SubmitMessage.with_call(
            request("p3"), metadata=(*key, ("x-request-id", "from-grpcio")), timeout=20)
        metadata = dict(call.initial_metadata()) | dict(call.trailing_metadata())
        assert metadata["x-request-id"] == "from-grpcio", metadata

    def a_message_over_the_limit_is_refused_for_good():
        error = refused(lambda: submit(request("p4", message_body="x" * 300_000)), grpc.StatusCode.RESOURCE_EXHAUSTED)
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert b"BODY_TOO_LARGE" in details and b"RetryInfo" not in details, details

    def codes_are_those_of_the_contract():
        refused(lambda: submit(request("")), grpc.StatusCode.INVALID_ARGUMENT)
        refused(lambda: submit(request("p5"), metadata=()), grpc.StatusCode.UNAUTHENTICATED)
        refused(lambda: submit(request("p5", org_id="other")), grpc.StatusCode.PERMISSION_DENIED)
        refused(lambda: submit(request("p5", env=message_pb2.ENVIRONMENT_PROD)), grpc.StatusCode.PERMISSION_DENIED)
        missing = service_pb2.GetMessageRequest(message_sid="p5")
        refused(lambda: stub.GetMessage(missing, metadata=key, timeout=20), grpc.StatusCode.NOT_FOUND)

    return [a_message_goes_in_once_and_comes_back_whole, the_same_message_over_http_and_grpc_is_one_message,
            a_request_id_comes_back_as_metadata, a_message_over_the_limit_is_refused_for_good,
            codes_are_those_of_the_contract]
