#!/usr/bin/env bash
# Drives the built program as a user would: exit codes, standard output, error lines.
# usage: cli_test.sh PROGRAM MODEL_FOLDER GOLDEN_FOLDER
set -u
millrace=$1
model=$2
golden=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0
prompt="Once upon a time"

complain() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

# run CODE ARGUMENTS...: runs the program, keeps its output in ./out and ./err.
run() {
  local expected=$1
  shift
  "$millrace" "$@" >out 2>err </dev/null
  local code=$?
  [ "$code" = "$expected" ] || complain "exit code $code, expected $expected: millrace $* ($(head -c 300 err))"
}

# refused CODE TEXT ARGUMENTS...: one error line that contains TEXT, and nothing on standard output.
refused() {
  local code=$1 text=$2
  shift 2
  run "$code" "$@"
  head -1 err | grep -q '^millrace: error: ' || complain "no error line: millrace $*"
  grep -qiF -- "$text" err || complain "'$text' is not in the error: millrace $*: $(cat err)"
  [ ! -s out ] || complain "standard output is not empty: millrace $*"
  local lines=1
  [ "$code" = 2 ] && lines=2
  [ "$(wc -l <err)" = "$lines" ] || complain "$(wc -l <err) lines of error, expected $lines: millrace $*"
}

same() {
  [ "$1" = "$2" ] || complain "$3: '$1' is not '$2'"
}

json() {
  if command -v python3 >/dev/null; then
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$1" || complain "$1 is no JSON: $2"
  fi
  grep -q '^{.*}$' "$1" || complain "$1 is no JSON object: $2"
}

help_and_version() {
  run 0 --version
  grep -Eq '^millrace [0-9]+\.[0-9]+\.[0-9]+$' out || complain "--version: $(cat out)"
  run 0
  grep -q generate out || complain "no subcommand shows no help"
  for subcommand in "" generate chat eval tokenize detokenize inspect plan synth bench; do
    run 0 $subcommand --help
    [ "$(wc -l <out)" -le 44 ] || complain "help of '$subcommand' has $(wc -l <out) lines"
    [ "$(wc -L <out)" -le 100 ] || complain "help of '$subcommand' has lines of $(wc -L <out) columns"
    [ -z "$subcommand" ] || grep -q '^Example: millrace' out || complain "help of $subcommand has no example"
  done
}

session_file() {
  local whole first second kept
  run 0 generate "$prompt" --temperature 0 -n 20
  whole=$(cat out)
  run 0 generate "$prompt" --temperature 0 -n 8 --session s.kv
  first=$(cat out)
  run 0 generate --temperature 0 -n 12 --session s.kv --stats
  same "$first$(cat out)" "$whole" "a text in two parts"
  grep -q '^prompt *[0-9]* tokens kept, 1 tokens' err || complain "nothing was kept: $(cat err)"
  # The whole text with something behind it, and that alone.
  run 0 generate "$prompt$whole And" --temperature 0 -n 8
  second=$(cat out)
  run 0 generate "$prompt$whole And" --temperature 0 -n 8 --session s.kv --keep-session --json
  kept=$(sed 's/.*"kept_tokens":\([0-9]*\).*/\1/' out)
  [ "$kept" -gt 10 ] || complain "the beginning that both share is computed again: $kept tokens kept"
  run 0 generate --prompt " And" --append --temperature 0 -n 8 --session s.kv
  same "$(cat out)" "$second" "a prompt behind the session"
  # A prompt to be kept, without a word of the model.
  run 0 generate "$prompt" -n 0 --session p.kv
  [ ! -s out ] || complain "-n 0 prints something"
  run 0 generate --temperature 0 -n 20 --session p.kv
  same "$(cat out)" "$whole" "a prompt computed before"
  session_refusals
}

# What is refused stays as it is.
session_refusals() {
  cp s.kv before.kv
  refused 1 "holds" generate "Another text" --session s.kv
  refused 1 "numerics" generate --session s.kv --numerics f32
  refused 1 "context" generate --session s.kv --ctx 5
  (
    ulimit -f 8
    failures=0
    refused 1 "s.kv: cannot be written" generate --session s.kv -n 0
    exit "$failures"
  ) || complain "a full disk"
  cmp -s s.kv before.kv || complain "a session's file has changed"
  rm -f s.kv.*
  head -c 3000 before.kv >damaged.kv
  refused 1 "damaged.kv" generate --session damaged.kv
  same "$(wc -c <damaged.kv)" 3000 "the size of a damaged file"
  echo "Dear diary" >foreign.txt
  refused 1 "foreign.txt" generate --session foreign.txt
  same "$(cat foreign.txt)" "Dear diary" "a foreign file"
  refused 1 "no/such/s.kv" generate "$prompt" --session no/such/s.kv
  refused 2 "no prompt" generate --session new.kv
  refused 2 "append" generate "$prompt" --append
  refused 2 "session" generate "$prompt" --no-cache --session s.kv
}

planning() {
  export XDG_CACHE_HOME=$PWD/cache
  run 0 plan
  grep -q '^  experts .*all 112' out || complain "plan of the demo model: $(cat out)"
  grep -q '^  generation .*tokens/s' out || complain "plan without speed: $(cat out)"
  [ -f cache/millrace/machine.json ] || complain "plan remembers nothing of the machine"
  # Too small to measure a disk by: another model on it shall.
  grep -q '"[^"]*, no disk"' cache/millrace/machine.json || complain "an assumed disk: $(cat cache/millrace/machine.json)"
  grep -q 'measured here' out || complain "plan measures nothing: $(cat out)"
  echo '{"' >cache/millrace/machine.json
  run 0 plan --json --memory 1G --ctx 100 --sessions 3
  grep -q '"memory": [0-9]' cache/millrace/machine.json || complain "what plan remembers: $(cat cache/millrace/machine.json)"
  json out "plan --json"
  grep -q '"budget":1073741824' out || complain "plan --json --memory: $(cat out)"
  grep -q '"context":100,"sessions":3' out || complain "plan --json --ctx --sessions: $(cat out)"
  # Too little: the tables all the same, and an error.
  run 1 plan --memory 10M
  grep -q 'too little' out || complain "plan does not show what is too little: $(cat out)"
  grep -q '^millrace: error: .*at least .*--ctx' err || complain "plan --memory 10M: $(cat err)"
  refused 1 "at least" generate "$prompt" --memory 10M
  refused 2 "memory" generate "$prompt" --memory lots
  run 0 generate "$prompt" -n 5 --temperature 0
  cp out free
  run 0 generate "$prompt" -n 5 --temperature 0 --memory 100M
  cmp -s out free || complain "--memory changes the text"
  # By the index alone, of a model far larger than this machine.
  run 0 synth --shape full --family minimax_m2 --sparse --out huge
  rm huge/*.safetensors
  run 0 plan -m huge --memory 64G --no-probe
  grep -q 'absent, planned by the index' out || complain "plan by the index: $(cat out)"
  grep -q 'expert cache .*of 15872 experts' out || complain "plan of a large model: $(cat out)"
  grep -q 'generation .*limited by disk' out || complain "what limits a large model: $(cat out)"
  refused 1 "safetensors" generate -m huge --tokens 1
}

wrong_use() {
  refused 2 "nonsense" nonsense
  refused 2 "--nonsense" generate --nonsense
  refused 2 "prompt" generate
  refused 2 "--file" generate text --file x
  refused 2 "threads" generate "$prompt" --threads 0
  refused 2 "threads" generate "$prompt" --threads 10000
  refused 2 "threads" generate "$prompt" --threads two
  refused 2 "isa" generate "$prompt" --isa sse9
  refused 2 "numerics" generate "$prompt" --numerics f64
  refused 2 "max-tokens" generate "$prompt" -n -1
  refused 2 "top-p" generate "$prompt" --top-p 1.5
  refused 2 "temperature" generate "$prompt" --temperature -1
  refused 2 "seed" generate "$prompt" --seed -1
  refused 2 "expected ID=V" generate "$prompt" --logit-bias 5
  refused 1 "logit_bias of token 99999" generate "$prompt" --logit-bias 99999=1
  refused 1 "min_tokens is 9" generate "$prompt" --min-tokens 9 -n 8
  refused 2 "'x' is not a token id" generate --tokens 1,x
  refused 2 "--out" eval "$prompt"
  refused 2 "--logits" eval "$prompt" --out o --logits some
  refused 2 "text" tokenize
  refused 2 "ids" detokenize
}

tokenizing() {
  run 0 tokenize "$prompt"
  local ids
  ids=$(cat out)
  run 0 detokenize $ids
  same "$(cat out)" "$prompt" "tokens and back"
  run 0 detokenize "${ids// /,}"
  same "$(cat out)" "$prompt" "ids with commas"
  printf '%s\n' "$prompt" >text
  run 0 tokenize --file text
  same "$(cat out)" "$ids $("$millrace" tokenize $'\n')" "a file with a newline"
  "$millrace" tokenize --file - <text | "$millrace" detokenize --file - >back
  cmp -s text back || complain "a pipe through both"
  run 0 tokenize --json "$prompt"
  json out "tokenize"
  run 0 detokenize --json 1 2 3
  json out "detokenize"
  run 0 tokenize ""
  same "$(cat out)" "" "no text has no tokens"
  mkdir only
  cp "$model"/tokenizer*.json only
  run 0 tokenize -m only "$prompt"
  same "$(cat out)" "$ids" "a folder with a tokenizer only"
  refused 1 "no.such.file" tokenize --file no.such.file
  refused 1 "directory" tokenize --file .
  refused 1 "99999999" detokenize 99999999
}

generating() {
  run 0 generate "$prompt" -n 8 --temperature 0
  local text
  text=$(cat out)
  [ -n "$text" ] || complain "nothing was generated"
  [ ! -s err ] || complain "generate writes to standard error: $(cat err)"
  case $text in "$prompt"*) complain "the prompt is echoed" ;; esac
  run 0 generate --prompt "$prompt" -n 8 --temperature 0 --threads 1
  same "$(cat out)" "$text" "one thread"
  run 0 generate "$prompt" -n 8 --temperature 0 --isa scalar --weights bf16
  same "$(cat out)" "$text" "the scalar tier on bf16 weights"
  run 0 generate "$prompt" -n 8 --temperature 0 --profile trace.json
  same "$(cat out)" "$text" "with a profile"
  grep -q '"name":"pass of 1 rows"' trace.json || complain "--profile has no passes: $(head -c 300 trace.json)"
  run 0 generate "$prompt" -n 8 --temperature 0 --no-cache
  same "$(cat out)" "$text" "without the cache"
  run 0 generate --tokens "$("$millrace" tokenize "$prompt")" -n 8 --top-k 1
  same "$(cat out)" "$text" "ids, and only the likeliest token"
  printf %s "$prompt" >text
  run 0 generate --file text -n 8 --temperature 0 --ctx 100
  same "$(cat out)" "$text" "a file"
  printf '[{"role": "user", "content": "Hail <|im_end|>"}]' >chat.json
  printf '{"messages": [{"role": "user", "content": "Hail"}], "variables": {"enable_thinking": true}}' >thinking.json
  run 0 generate --messages chat.json --render-only
  grep -qF 'Hail <|im_end|><|im_end|><|im_start|>assistant' out || complain "rendered: $(cat out)"
  run 0 generate --messages chat.json --render-only --no-generation-prompt
  grep -qF 'assistant' out && complain "the answer begins: $(cat out)"
  run 0 generate --messages thinking.json --render-only
  grep -qF '<think>' out && complain "thinking is on, but the template turned it off: $(cat out)"
  run 0 generate --messages chat.json --render-only --json
  json out "generate --render-only"
  run 0 generate --messages chat.json -n 4
  refused 2 "--messages" generate --render-only
  refused 2 "--messages" generate text --messages chat.json
  refused 1 "none.json" generate --messages none.json
  echo '{"messages": 1}' >bad.json
  refused 1 "messages" generate --messages bad.json
  run 0 generate "$prompt" -n 0
  [ ! -s out ] || complain "-n 0 prints something"
  run 0 generate "$prompt" -n 0 --json
  json out "-n 0"
  grep -q '"finish_reason":"length"' out || complain "-n 0 does not finish by length"
  run 0 generate "$prompt" -n 8 --seed 7
  text=$(cat out)
  run 0 generate "$prompt" -n 8 --seed 7 --stats
  same "$(cat out)" "$text" "the same seed"
  grep -q 'seed 7$' err || complain "--stats does not name the seed"
  run 0 generate "$prompt" -n 8 --json
  json out "generate"
  for key in model prompt_ids ids text finish_reason seed timings; do
    grep -q "\"$key\":" out || complain "generate --json has no $key"
  done
  MILLRACE_ISA=none refused 1 "MILLRACE_ISA" generate "$prompt"
  if ! grep -qw amx_bf16 /proc/cpuinfo; then
    refused 1 "amx" generate "$prompt" --isa amx
    MILLRACE_ISA=amx refused 1 "amx" generate "$prompt"
  fi
}

ending() {
  run 0 generate "$prompt" -n 40 --temperature 0
  local text word
  text=$(cat out)
  word=$(printf %s "$text" | tr '\n' ' ' | cut -d' ' -f5)
  run 0 generate "$prompt" -n 40 --temperature 0 --stop "$word" --stop "never there" --json
  grep -q '"finish_reason":"stop_string"' out || complain "'$word' does not end the text: $(cat out)"
  run 0 generate "$prompt" -n 40 --temperature 0 --stop "$word"
  same "$(cat out)" "${text%%"$word"*}" "text before a stop string"
  run 0 generate "$prompt" -n 100 --ctx 10 --json --ignore-eos
  grep -q '"finish_reason":"length"' out || complain "a full context is not reported as length"
  refused 1 "context" generate "$prompt, $prompt" --ctx 5
  refused 1 "context" generate "$prompt" --ctx 100000000
  refused 1 "empty" generate ""
  refused 1 "token id" generate --tokens 99999999
}

speculating() {
  run 0 generate "$prompt" -n 40 --temperature 0 --mtp off --stats
  mv out plain
  grep -q '^mtp' err && complain "--mtp off speaks of mtp"
  for how in auto 1 3; do
    run 0 generate "$prompt" -n 40 --temperature 0 --mtp $how --stats
    cmp -s out plain || complain "--mtp $how gives another text"
    grep -q '^mtp ' err || complain "--stats says nothing of --mtp $how"
  done
  run 0 generate "$prompt" -n 40 --temperature 0 --mtp 2 --json
  json out "--mtp 2"
  grep -q '"tokens_per_pass"' out || complain "no statistics of guesses in the JSON"
  refused 2 "auto, off" generate "$prompt" --mtp none
  refused 1 "3 prediction layers" generate "$prompt" --mtp 4
  refused 1 "0 prediction layers" generate --tokens 1 --mtp 1 -m "$golden/models/mimo-t5"

  run 0 eval --tokens 1,2,3,4 --out mtp.safetensors --trace 'mtp.*'
  for name in mtp.layers.0.eh_proj mtp.layers.1 mtp.layers.2.logits; do
    grep -aq "\"$name\"" mtp.safetensors || complain "--trace mtp.* lacks $name"
  done
  grep -aq '"layers\.' mtp.safetensors && complain "--trace mtp.* writes layers of the main model"
  run 0 eval --tokens 1,2 --out mtp.safetensors --trace all
  grep -aq '"mtp.layers.1"' mtp.safetensors && complain "a prediction without its token"
  run 0 eval --tokens 1,2,3,4 --out given.safetensors --trace embed_tokens
  for given in "--embeds given.safetensors" "--tokens 1,2,3,4 --pad-left 2"; do
    run 0 eval $given --out mtp.safetensors --trace 'mtp.*'
    grep -aq '"mtp.layers.2.logits"' mtp.safetensors || complain "--trace mtp.* lacks layers with $given"
  done
  refused 1 "at least 4 tokens, found 3" eval --tokens 1,2,3 --out mtp.safetensors --trace mtp.layers.2
}

closed_output() {
  "$millrace" generate "$prompt" -n 400 --ignore-eos 2>err | head -c 1 >/dev/null
  same "${PIPESTATUS[0]}" 0 "exit code with a closed pipe"
  [ ! -s err ] || complain "a closed pipe is reported: $(cat err)"
  "$millrace" --help 2>err | true
  same "${PIPESTATUS[0]}" 0 "exit code of help with a closed pipe"
  if [ -c /dev/full ]; then
    "$millrace" generate "$prompt" -n 4 >/dev/full 2>err
    same "$?" 1 "exit code with a full standard output"
    grep -q '^millrace: error: standard output: ' err || complain "a full standard output: $(cat err)"
  fi
}

interrupted() {
  # A child of a script without job control ignores SIGINT from the start; env restores it.
  env --default-signal=INT "$millrace" generate "$prompt" -n 100000 --ctx 2048 --ignore-eos >out 2>err &
  local child=$!
  for _ in $(seq 200); do
    [ -s out ] && break
    sleep 0.05
  done
  kill -INT "$child"
  wait "$child"
  same "$?" 130 "exit code after Ctrl-C"
  [ -s out ] || complain "no text before Ctrl-C"
  [ ! -s err ] || complain "Ctrl-C is reported: $(cat err)"
}

evaluating() {
  run 0 eval --tokens 1,2,3,4 --out a.safetensors --trace all
  run 0 eval --tokens 1,2,3,4 --out b.safetensors --trace all --chunk 3 --threads 1 --positions 0,1,2,3
  cmp -s a.safetensors b.safetensors || complain "eval depends on chunks or threads"
  for name in '"embed_tokens"' '"layers.0.self_attn.q"' '"layers.1.mlp.topk_ids"' '"norm"' '"logits"' millrace-dump-1; do
    grep -aq "$name" a.safetensors || complain "$name is not in the dump"
  done
  grep -aq 'q_proj"' a.safetensors && complain "--trace all writes values outside the dump format"
  run 0 eval --tokens 1,2,3,4 --out c.safetensors --logits 2 --trace 'layers.?,norm'
  grep -aq '"logits_rows"' c.safetensors || complain "no logits_rows"
  run 0 eval --tokens 1,2,3,4 --out d.safetensors --positions 100 --numerics f32
  grep -aq '"recipe":"f32"' d.safetensors || complain "recipe of f32"
  run 0 eval -m "$golden/models/mimo-basic" --tokens 1,2,3,4 --out d.safetensors --numerics w8a8-bf16
  grep -aq '"recipe":"w8a8-block128"' d.safetensors || complain "recipe of w8a8"
  grep -aq 'everything else in bfloat16' d.safetensors || complain "note of w8a8-bf16"
  run 0 inspect -m d.safetensors
  grep -q logits out || complain "inspect does not list the tensors of a file"
  run 0 eval --tokens 1,2,3,4 --out own.safetensors --trace 'layers.*'
  run 0 eval --tokens 1,2,3,4 --out b.safetensors --trace 'layers.*' --force-experts a.safetensors
  cmp -s own.safetensors b.safetensors || complain "eval with its own experts forced"
  run 0 eval --embeds a.safetensors --trace all --out b.safetensors
  run 0 eval --tokens 1,2,3,4 --out b.safetensors --pad-left 5 --attention 0 --logits 0,3
  for name in '"attention_mask"' '"layers.0.self_attn.probs"' '"logits_rows"'; do
    grep -aq "$name" b.safetensors || complain "$name is not in the dump"
  done
  run 0 eval --tokens 1,2,3,4 --labels tokens --expert-stats
  grep -q '^loss [0-9.]* +/- [0-9.]*, perplexity [0-9.]* (3 tokens)$' out || complain "--labels: $(cat out)"
  grep -q 'experts used, busiest' out || complain "--expert-stats: $(cat out)"
  run 0 eval --tokens 1,2,3,4 --labels 1,-100,3,4 --expert-stats --json
  json out "eval --labels"
  printf '%s, a fox saw some grapes that hung too high for him.' "$prompt" >story
  run 0 eval --ppl story --ctx 12
  grep -q '^perplexity [0-9.]* +/- [0-9.]* ([0-9]* tokens, [0-9]* windows of 12, stride 6)$' out ||
    complain "--ppl: $(cat out)"
  run 0 eval --ppl story --json
  json out "eval --ppl"
  run 0 eval --help-more
  grep -q -- --force-experts out || complain "--help-more: $(cat out)"
  run 0 eval --tokens 1,2,3,4 --profile trace.json
  grep -q 'all steps' err || complain "--profile prints no sums: $(cat err)"
  grep -q '"name":"layers.1.mlp"' trace.json || complain "--profile lacks a step"
  refused 1 "no/such" eval --tokens 1 --profile no/such/trace.json
  refused 2 "no prompt" eval --ppl story "$prompt"
  refused 2 "no prompt" eval --embeds a.safetensors "$prompt" --out e.safetensors
  refused 1 "as many" eval --tokens 1,2,3 --labels 1,2
  refused 1 "expected [2, experts]" eval --tokens 1,2 --out e.safetensors --force-experts a.safetensors
  refused 1 "expected [4, 4]" eval --tokens 1,2,3,4 --out e.safetensors --mask d.safetensors
  refused 1 "layers.0" eval "$prompt" --out e.safetensors --trace layer.0
  refused 1 "positions" eval --tokens 1,2,3 --positions 1,2 --out e.safetensors
  refused 1 "logits" eval --tokens 1,2,3 --logits 4 --out e.safetensors
  run 0 eval --tokens 1,2,3 --logits none --out logits.safetensors --trace norm
  grep -aq '"logits"' logits.safetensors && complain "--logits none writes logits"
  run 0 eval --tokens 1,2,3 --logits 0 --out logits.safetensors
  grep -aq '"logits":{[^}]*"shape":\[3,' logits.safetensors || complain "--logits 0 is not all rows"
  refused 1 "no/such" eval --tokens 1 --out no/such/e.safetensors
  refused 1 "regular" eval --tokens 1 --out .
  [ ! -c /dev/full ] || refused 1 "regular" eval --tokens 1 --out /dev/full
  (ulimit -f 8 && exec "$millrace" eval "$prompt" --out e.safetensors >out 2>err)
  same "$?" 1 "exit code when the disk is full"
  grep -q '^millrace: error: e.safetensors' err || complain "a full disk: $(cat err)"
  [ -z "$(find . -name 'e.safetensors*')" ] || complain "something half-written was left behind"
}

inspecting() {
  run 0 inspect
  for word in family router sliding memory KV kernels; do
    grep -q "$word" out || complain "inspect says nothing of $word"
  done
  [ "$(wc -L <out)" -le 130 ] || complain "inspect prints lines of $(wc -L <out) columns"
  run 0 inspect --json --tensors --verify
  json out "inspect"
  run 0 inspect --verify
  grep -q 'nothing is wrong' out || complain "inspect --verify: $(tail -3 out)"
  run 0 inspect -m "$model" --checksums
  grep -E '^[0-9a-f]{64}  ' out >sums || complain "inspect --checksums: $(tail -3 out)"
  (cd "$model" && sha256sum --quiet -c "$OLDPWD/sums") || complain "checksums are not those of sha256sum"
  run 0 inspect -m "$model" --checksums --tensors --json
  json out "inspect --checksums"
  grep -q tensor_checksums out || complain "no checksums of tensors"
  [ -d "$golden/models/mimo-fused-qkv" ] || return
  run 0 inspect -m "$golden/models/mimo-fused-qkv" --verify
  grep -q '544 rows: one for each 272 rows' out || complain "inspect --verify tells no scale grid: $(cat out)"
}

# Another family, as published and as a mirror renames it.
synthesizing() {
  refused 2 "--out" synth --shape full
  refused 2 "--fp8" synth --shape mimo-reduced --out new --fp8 --bf16
  refused 1 "mimo-reduced" synth --shape nonsense --out new
  refused 1 "family" synth --shape full --out new
  refused 1 "no-folder" synth --shape "$golden/configs/mimo-basic.json" --out no-folder/new
  run 0 synth --shape "$golden/configs/mimo-basic.json" --mtp 1 --seed 3 --out new
  run 0 inspect -m new --verify
  grep -q "nothing is wrong" out || complain "a synthetic model is not clean: $(cat out)"
  run 0 generate -m new --tokens 1,2,3 -n 4
  refused 1 "not empty" synth --shape "$golden/configs/mimo-basic.json" --out new
  run 0 synth --family minimax_m2 --shape full --layers 2 --sparse --out sparse
  run 0 inspect -m sparse
  [ "$(du -sm sparse | cut -f1)" -le 4 ] || complain "a sparse folder takes $(du -sm sparse)"
}

benchmarking() {
  run 0 bench --threads 1 --prompt 8 --gen 2 --batch 1,2 --depth 0,9 --rounds 2 --json bench.json
  json bench.json "bench --json"
  grep -q 'decode, 1 thread, batch 2, depth 0' out || complain "bench: $(cat out)"
  for key in processor tier version rounds ceilings results '"disk"' fraction kinds '"threads":1' '"depth":9' '"prefill"'; do
    grep -q -- "$key" bench.json || complain "$key is not in what bench --json wrote"
  done
  grep -q 'null' bench.json && complain "bench --json has numbers that are none"
  run 0 bench --compare bench.json bench.json
  grep -q 'prefill, 1 thread, 8 tokens.* 1.000' out || complain "bench --compare: $(cat out)"
  refused 1 "trace.json" bench --compare bench.json trace.json
  refused 2 "depth" bench --depth -1
  refused 2 "only" bench --only everything
  run 0 bench --threads 1 --only mtp --mtp 2 --accept 0.8,0.6 --gen 8 --rounds 1 --json guesses.json
  grep -q 'mtp, 1 thread, 2, accept 0.8,0.6 .*tokens/pass' out || complain "bench --mtp: $(cat out)"
  json guesses.json "bench --mtp --json"
  refused 2 "--mtp" bench --only mtp
  refused 2 "--mtp" bench --accept 0.8
  refused 1 "do not rise" bench --threads 1 --only mtp --mtp 2 --accept 0.6,0.8
  refused 1 "prediction layers" bench --threads 1 --only mtp --mtp 7
  run 0 bench --threads 1 --gen 3 --trace-experts routing.txt
  run 0 plan --no-probe --json --trace routing.txt
  grep -q '"hit_rate_from":"trace"' out || complain "plan --trace: $(cat out)"
  refused 1 "routing.txt: a routing of" plan --no-probe -m "$golden/models/mimo-basic" --trace routing.txt
  run 0 bench --replay routing.txt
  grep -q 'Belady' out && [ "$(wc -l <out)" = 7 ] || complain "bench --replay: $(cat out)"
  refused 1 "missing.txt" bench --replay missing.txt
}

second_family() {
  [ -d "$golden/models/minimax-basic" ] || return
  cp -r "$golden/models/minimax-basic" mirror
  chmod -R u+w mirror
  run 0 inspect -m mirror
  grep -q '^family *minimax_m2' out || complain "inspect names no family: $(cat out)"
  grep -q 'qk norm' out || complain "inspect says nothing of the QK norm"
  [ "$(wc -L <out)" -le 130 ] || complain "inspect prints lines of $(wc -L <out) columns"
  run 0 eval -m mirror --tokens 1,2,3 --trace all --out dump.safetensors  # a model without prediction layers
  run 0 generate -m mirror --tokens 1,2,3 -n 4 --temperature 0
  cp out published
  grep -q warning err && complain "a published folder is warned of: $(cat err)"
  sed -i 's/"minimax_m2"/"mixtral"/' mirror/config.json
  run 0 generate -m mirror --tokens 1,2,3 -n 4 --temperature 0
  same "$(cat out)" "$(cat published)" "a renamed model"
  grep -q '^millrace: warning: .*mixtral' err || complain "no warning of a wrong name: $(cat err)"
  run 0 inspect -m mirror
  grep -q '^warning .*mixtral' out || complain "inspect does not warn of a wrong name"
  run 0 eval -m mirror --tokens 1,2,3 --out mirror.safetensors --trace layers.0.self_attn.q_norm
  run 0 inspect -m mirror.safetensors
  grep -q 'layers.0.self_attn.q_norm' out || complain "eval does not trace the QK norm"
  sed -i 's/"mixtral"/"minimax_m3"/' mirror/config.json
  refused 1 "minimax_m3" inspect -m mirror
}

broken_models() {
  refused 1 "no/such" generate -m no/such "$prompt"
  mkdir empty
  refused 1 "empty" generate -m empty "$prompt"
  refused 1 "config.json" inspect -m empty
  refused 1 "tokenizer" tokenize -m empty "$prompt"
  mkdir -p folder/config.json
  refused 1 "config.json" inspect -m folder
  head -c 100 "$model/model.safetensors" >short.safetensors
  refused 1 "short.safetensors" inspect -m short.safetensors
  refused 1 "short.safetensors" inspect -m short.safetensors --verify
  cp -r "$model" changed
  chmod -R u+w changed
  rm changed/tokenizer*.json
  refused 1 "tokenizer" generate -m changed "$prompt"
  run 0 generate -m changed --tokens 1,2,3 -n 4 --temperature 0
  grep -Eq '^[0-9]+( [0-9]+){3}$' out || complain "no ids without a tokenizer: $(cat out)"
  printf '{"architectures": ["Unknown\033[31mForCausalLM"], "model_type": "unknown"}' >changed/config.json
  refused 1 "Unknown" generate -m changed --tokens 1
  grep -q "$(printf '\033')" err && complain "an escape sequence reaches the terminal"
  if [ "$(id -u)" != 0 ]; then
    chmod a-r changed/config.json
    refused 1 "config.json" inspect -m changed
  fi
  [ -d "$golden/bad" ] || return
  run 1 inspect -m "$golden/bad/nan-code" --verify
  grep -q 'problem: .*row' out || complain "inspect --verify finds no NaN code: $(cat out)"
  run 1 inspect -m "$golden/bad/missing-tensor" --verify
  for folder in missing-tensor no-head sink-on-full-layer; do
    refused 1 "bad/$folder" inspect -m "$golden/bad/$folder"
  done
}

help_and_version
wrong_use
tokenizing
generating
session_file
planning
ending
speculating
closed_output
interrupted
evaluating
inspecting
benchmarking
synthesizing
second_family
broken_models
if [ "$failures" != 0 ]; then
  echo "$failures checks failed"
  exit 1
fi
echo "all checks passed"
