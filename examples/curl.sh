#!/usr/bin/env bash
# Sends one message with curl, and again until the service has answered. The message keeps its id, so it is accepted once
# however often it is sent.
#
#   KEY=mw_dev_… examples/curl.sh [MESSAGE_SID]
#
# WEBHOOK_URL names another webhook than the demo's.
set -euo pipefail

: "${KEY:?the API key}"
url="${WEBHOOK_URL:-http://127.0.0.1:8080/demo/dev/v1/message-webhook}"
sid="${1:-msg_$(date +%s)_$RANDOM}"
message='{
  "from_id": "user_abc123",
  "message_sid": "'"$sid"'",
  "timestamp": "'"$(date +%s)"'",
  "message_body": "Here is my meal, this is gruyere cheese btw.",
  "image_urls": ["https://example.com/images/food.jpg"],
  "audio_urls": []
}'
answer="$(mktemp)"
trap 'rm -f "$answer"' EXIT

pause=1
while true; do
    # The header comes from a file, so that the key is in no list of processes. Without an answer the status is 000.
    read -r status retry_after < <(
        curl -sS --max-time 30 "$url" \
            -H @<(printf 'Authorization: Bearer %s\n' "$KEY") -H 'Content-Type: application/json' \
            --data-binary "$message" -o "$answer" -w '%{http_code} %header{retry-after}\n' || true
    )
    case "$status" in
        200) # Processed now, or already processed by an attempt whose answer was lost. Both mean: it is in.
            cat "$answer"
            echo
            exit 0
            ;;
        000 | 408 | 429 | 5??) # May have been accepted or not. The same message again tells.
            echo "no answer yet ($status), trying again" >&2
            ;;
        *) # The message or the key is wrong, and will be wrong again.
            cat "$answer" >&2
            exit 1
            ;;
    esac
    sleep "${retry_after:-$pause}"
    pause=$((pause < 30 ? pause * 2 : 30))
done
