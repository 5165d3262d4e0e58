#!/usr/bin/env bash
# Every call of an internal service with grpcurl, which knows the API by reflection alone.
#
#   KEY=mw_dev_… examples/grpcurl.sh [MESSAGE_SID]
#
# GRPC_ADDR names another server than the demo's. The key needs the scopes submit, read and stream.
set -euo pipefail

: "${KEY:?the API key}"
export KEY
address="${GRPC_ADDR:-127.0.0.1:9090}"
sid="${1:-msg_$(date +%s)_$RANDOM}"
service=messagewebhook.v1.MessageService

call() {
    # grpcurl takes the key from the environment, so that it is in no list of processes.
    grpcurl -plaintext -max-time 30 -expand-headers -H 'authorization: Bearer ${KEY}' "$@"
}

echo "# Accepted once: the second time it is a duplicate, with the times of the first."
for _ in 1 2; do
    call -d '{
      "fromId": "user_abc123",
      "messageSid": "'"$sid"'",
      "timestamp": "2024-12-18T12:00:00Z",
      "messageBody": "Here is my meal, this is gruyere cheese btw.",
      "imageUrl": "https://example.com/images/food.jpg"
    }' "$address" "$service/SubmitMessage"
done

echo "# Two messages over one stream; each answer carries the correlation id of its message."
call -d @ "$address" "$service/SubmitMessages" <<MESSAGES
{"correlationId": 1, "message": {"fromId": "user_abc123", "messageSid": "$sid-1", "timestamp": "2024-12-18T12:00:01Z"}}
{"correlationId": 2, "message": {"fromId": "user_abc123", "messageSid": "$sid-2", "timestamp": "2024-12-18T12:00:02Z"}}
MESSAGES

echo "# Looked up by its id."
call -d '{"messageSid": "'"$sid"'"}' "$address" "$service/GetMessage"

echo "# The newest messages of its sender."
call -d '{"fromId": "user_abc123", "pageSize": 2}' "$address" "$service/ListMessages"

echo "# The feed from its beginning. It never ends by itself; here it is left after 3 seconds."
call -max-time 3 -d '{"position": "START_POSITION_START"}' "$address" "$service/StreamMessages" || [ $? -eq 68 ]
