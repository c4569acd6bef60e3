#!/bin/sh
# The request of https://github.com/BerriAI/litellm/issues/28735.
curl -sS -N "http://127.0.0.1:${PORT:-4000}/v1/chat/completions" \
  -H 'Authorization: Bearer sk-anything' \
  -H 'Content-Type: application/json' \
  -d '{
    "model": "bedrock-claude-sonnet-4-6",
    "messages": [{"role": "user", "content": "Say hello in one sentence."}],
    "stream": true,
    "stream_options": {"include_usage": true}
  }'
