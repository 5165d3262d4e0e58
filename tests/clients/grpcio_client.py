"""Python grpcio, with stubs generated from proto/ as an internal service would, and by reflection."""

import datetime

import grpc
import requests
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import grpcio_stubs


def checks(server, folder):
    stubs = grpcio_stubs.generate(folder)
    message_pb2, service_pb2, stub = stubs.message, stubs.service, stubs.stub(server.grpc)
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

    def many_messages_go_in_over_one_stream_each_with_its_own_answer():
        sent = [service_pb2.SubmitMessagesRequest(correlation_id=number, message=request(f"many-{number % 450}"))
                for number in range(500)]
        sent.append(service_pb2.SubmitMessagesRequest(correlation_id=500, message=request("")))
        answers = {answer.correlation_id: answer for answer in stub.SubmitMessages(iter(sent), metadata=key, timeout=60)}
        assert sorted(answers) == list(range(501))
        outcomes = [answers[number].receipt.outcome for number in range(500)]
        assert outcomes.count(service_pb2.SUBMIT_OUTCOME_ACCEPTED) == 450
        assert outcomes.count(service_pb2.SUBMIT_OUTCOME_DUPLICATE) == 50
        assert answers[500].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0] and len(answers[500].error.details) > 1

    def a_list_is_read_page_by_page_and_the_newest_is_first():
        for number in range(7):
            sent = request(f"page-{number}")
            sent.from_id = "user_pages"
            submit(sent)
        found, token, pages = [], "", 0
        while pages == 0 or token:
            asked = service_pb2.ListMessagesRequest(from_id="user_pages", page_size=3, page_token=token)
            page = stub.ListMessages(asked, metadata=key, timeout=20)
            found += [message.message_sid for message in page.messages]
            token, pages = page.next_page_token, pages + 1
        assert found == [f"page-{number}" for number in reversed(range(7))] and pages == 3, (found, pages)

    def the_feed_goes_on_at_a_cursor():
        streaming = (("authorization", f"Bearer {server.stream_key}"),)
        for sid in ("feed-1", "feed-2"):
            submit(request(sid))

        def after(asked):
            call = stub.StreamMessages(asked, metadata=streaming, timeout=60)
            for response in call:
                for item in response.messages:
                    yield item
        start = after(service_pb2.StreamMessagesRequest(position=service_pb2.START_POSITION_START))
        first = next(item for item in start if item.message.message_sid == "feed-1")
        second = next(after(service_pb2.StreamMessagesRequest(cursor=first.cursor)))
        assert second.message.message_sid == "feed-2" and len(first.cursor) <= 64, second
        bad = service_pb2.StreamMessagesRequest(cursor="no cursor")
        refused(lambda: next(after(bad)), grpc.StatusCode.INVALID_ARGUMENT)

    def reflection_alone_is_enough_to_call():
        channel = grpc.insecure_channel(server.grpc)
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("messagewebhook.v1.MessageService")
        method = service.FindMethodByName("SubmitMessage")
        taken, given = (message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type))
        call = channel.unary_unary(f"/{service.full_name}/{method.name}", request_serializer=taken.SerializeToString,
                                   response_deserializer=given.FromString)
        sent = taken(from_id="user_reflection", message_sid="reflected", message_body="hi")
        sent.timestamp.seconds = 1672531200
        for outcome in ("SUBMIT_OUTCOME_ACCEPTED", "SUBMIT_OUTCOME_DUPLICATE"):
            receipt = call(sent, metadata=key, timeout=20)
            names = given.DESCRIPTOR.fields_by_name["outcome"].enum_type.values_by_number
            assert names[receipt.outcome].name == outcome, receipt

    return [a_message_goes_in_once_and_comes_back_whole, the_same_message_over_http_and_grpc_is_one_message,
            a_request_id_comes_back_as_metadata, a_message_over_the_limit_is_refused_for_good,
            codes_are_those_of_the_contract, many_messages_go_in_over_one_stream_each_with_its_own_answer,
            a_list_is_read_page_by_page_and_the_newest_is_first, the_feed_goes_on_at_a_cursor,
            reflection_alone_is_enough_to_call]
