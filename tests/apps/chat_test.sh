#!/usr/bin/env bash
# Talks with the built program through pipes and through a pseudo-terminal (script, of Debian's bsdutils).
# usage: chat_test.sh PROGRAM MODEL_FOLDER
set -u
millrace=$1
model=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0
escape=$(printf '\033')

complain() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

same() {
  [ "$1" = "$2" ] || complain "$3: '$1' is not '$2'"
}

# pipe CODE INPUT ARGUMENTS...: INPUT with its backslash sequences goes in, ./out and ./err come out.
pipe() {
  local expected=$1 input=$2
  shift 2
  printf '%b' "$input" | "$millrace" chat -m "$model" --temperature 0 "$@" >out 2>err
  local code=${PIPESTATUS[1]}
  [ "$code" = "$expected" ] || complain "exit code $code, expected $expected: millrace chat $* ($(head -c 300 err))"
}

quiet() {
  [ ! -s err ] || complain "$1 writes to standard error: $(cat err)"
}

piped() {
  pipe 0 'Good morrow!\nWhat news?\n' -n 12
  quiet "a pipe"
  [ "$(wc -l <out)" -ge 2 ] || complain "two messages have no two answers: $(cat out)"
  grep -q "$escape" out && complain "a pipe gets colours"
  local both first
  both=$(cat out)
  pipe 0 'Good morrow!\n' -n 12
  first=$(cat out)
  case $both in "$first"*) ;; *) complain "the first answer depends on the second message: $first | $both" ;; esac
  pipe 0 'Good morrow!\r\n\n  \nWhat news?' -n 12
  same "$(cat out)" "$both" "line ends, empty lines and a missing last one"
  pipe 0 'Who are you?\n/undo\nGood morrow!\nWhat?\n/reset\nGood morrow!\nWhat news?\n/exit\nno more\n' -n 12
  same "$(tail -n "$(echo "$both" | wc -l)" out)" "$both" "a conversation after /reset"
  pipe 0 '' -n 12
  [ ! -s out ] || complain "an answer to nothing"
  pipe 0 '/stats\n/help\n/system Be brief.\n/system\n'
  [ ! -s out ] || complain "commands write to standard output: $(cat out)"
  grep -q '^Be brief.$' err || complain "/system does not show the system text"
  grep -q '^/undo' err || complain "/help does not list /undo"
  pipe 0 'Good morrow!\n' -n 30 --thinking on
  grep -q 'think>' out && complain "the reasoning's tags are shown"
}

failing() {
  pipe 1 '/nonsense\n'
  grep -q '^millrace: error: there is no command /nonsense' err || complain "an unknown command: $(cat err)"
  pipe 1 '/load no.such.file\n'
  grep -q '^millrace: error: no.such.file' err || complain "/load of no file: $(cat err)"
  pipe 1 'Hello\n' --ctx 10
  grep -q 'the context holds 10$' err || complain "a context of 10: $(cat err)"
  pipe 0 'Tell me a story.\n' --ctx 60 --top-k 1
  grep -q 'context of 60 tokens is full\|^$' err || [ ! -s err ] || complain "a full context: $(cat err)"
  pipe 2 '' --thinking maybe
  pipe 2 '' -n 0
  mkdir plain
  cp "$model"/* plain
  chmod u+w plain/*
  rm plain/chat_template*
  sed -i "s/\"chat_template\"/\"another_key\"/" plain/tokenizer_config.json
  printf 'Hi\n' | "$millrace" chat -m plain >out 2>err
  same "${PIPESTATUS[1]}" 1 "exit code without a chat template"
  grep -q '^millrace: error: .*template' err || complain "no chat template: $(cat err)"
  printf 'Hi\nHi\n' | "$millrace" chat -m "$model" -n 100 | head -c 1 >/dev/null
  same "${PIPESTATUS[1]}" 0 "exit code with a closed pipe"
}

saving() {
  pipe 0 'Good morrow!\nWhat news?\n' -n 12 --system 'Be brief.'
  local both
  both=$(cat out)
  pipe 0 'Good morrow!\n' -n 12 --system 'Be brief.' --save c.json
  local first
  first=$(cat out)
  pipe 0 'What news?\n' -n 12 --load c.json --save d.json
  same "$first
$(cat out)" "$both" "a conversation in two parts"
  pipe 0 '/load d.json\n/undo\nWhat news?\n/save e.json\n' -n 12
  cmp -s d.json e.json || complain "the same conversation gives other files"
  pipe 0 '/stats\nWhat else?\n/stats\n' -n 12 --load d.json
  grep -q '[1-9][0-9]* kept from before' err || complain "the cache beside a file is not used: $(cat err)"
  echo broken >d.json.kv
  pipe 0 'What else?\n' -n 12 --load d.json
  grep -q '^d.json.kv: .* computed again' err || complain "a broken cache is not reported: $(cat err)"
  head -c 40 d.json >broken.json
  pipe 1 'Hi\n' --load broken.json
  grep -q '^millrace: error: broken.json: not valid JSON' err || complain "a broken file: $(cat err)"
  pipe 1 '/save no/such/file\n'
  grep -q '^millrace: error: no/such/file' err || complain "a file that cannot be written: $(cat err)"
}

session() {
  pipe 0 'Good morrow!\nWhat news?\n' -n 12
  local both
  both=$(cat out)
  pipe 0 'Good morrow!\n' -n 12 --session s.json
  local first
  first=$(cat out)
  pipe 0 '/stats\nWhat news?\n/stats\n' -n 12 --session s.json
  same "$first
$(cat out)" "$both" "a conversation kept in a session"
  grep -q '[1-9][0-9]* kept from before' err || complain "the session's cache is not used: $(cat err)"
  echo broken >s.json.kv
  pipe 1 'Hi\n' --session s.json
  grep -q '^millrace: error: s.json.kv: ' err || complain "a broken cache of a session: $(cat err)"
  same "$(cat s.json.kv)" broken "a refused file after the refusal"
  echo foreign >foreign
  pipe 1 'Hi\n' --session foreign
  same "$(cat foreign)" foreign "a foreign file after the refusal"
  pipe 1 'Hi\n' --session no/such/file
  pipe 2 'Hi\n' --session s.json --load s.json
}

interrupted_pipe() {
  mkfifo keys
  env --default-signal=INT "$millrace" chat -m "$model" --temperature 0 --ctx 2048 <keys >out 2>err &
  local child=$!
  exec 9>keys
  printf 'Tell me the longest story you know, and then another one.\n' >&9
  for _ in $(seq 200); do
    [ -s out ] && break
    sleep 0.05
  done
  kill -INT "$child"
  exec 9>&-
  wait "$child"
  local code=$?
  # The answer may have ended by itself just before.
  [ "$code" = 130 ] || [ "$code" = 0 ] || complain "exit code $code after Ctrl-C in a pipe"
  rm keys
}

# Waits until the terminal has shown TEXT; what came before this call counts only once.
shown=1
wait_for() {
  for _ in $(seq 1200); do
    local found
    found=$(tail -c "+$shown" screen 2>/dev/null | grep -abo -- "$1" | head -1 | cut -d: -f1)
    if [ -n "$found" ]; then
      shown=$((shown + found + ${#1}))
      return
    fi
    sleep 0.05
  done
  echo "'$1' was not shown" >>missed
}

# terminal ARGUMENTS...: runs the program in a pseudo-terminal with what the function `keys_pressed` prints as keys. The
# program takes the place of script's shell, which would die of a Ctrl-C meant for the program.
terminal() {
  rm -f screen missed
  shown=1
  keys_pressed | TERM=xterm LC_ALL=C.UTF-8 script -qefc "exec '$millrace' chat -m '$model' --temperature 0 $*" screen \
    >/dev/null 2>&1
  same "${PIPESTATUS[1]}" 0 "exit code of terminal $*"
  [ ! -f missed ] || complain "terminal $*: $(cat missed); on the screen: $(tr -d '\r' <screen | tail -c 600)"
}

at_a_terminal() {
  if ! command -v script >/dev/null; then
    echo "skipped: no script"
    return
  fi
  pipe 0 'Good morrow!\n' -n 12
  local answer
  answer=$(head -1 out)

  keys_pressed() {
    wait_for 'Ctrl-D leaves'
    wait_for '> '
    printf 'Good morow!\033[D\033[D\033[Dr\r'
    wait_for "$answer"
    wait_for '> '
    printf 'no message\003'
    wait_for '> '
    printf '\003'
    wait_for 'Ctrl-C again'
    wait_for '> '
    printf '/undo\r'
    wait_for 'Taken back: Good morr'
    wait_for '> '
    printf '\033[A\033[A\r'
    wait_for "$answer"
    wait_for '> '
    printf '\033[200~two\rlines\033[201~ and\\\rmore\r'
    wait_for '> '
    printf '/save terminal.json\r'
    wait_for 'Saved to'
    wait_for '> '
    printf '/nonsense\r'
    wait_for 'error: there is no command /nonsense'
    wait_for '> '
    printf '\004'
    wait_for 'Script done'
  }
  terminal -n 12
  grep -qF '"content": "two\nlines and\nmore"' terminal.json || complain "pasted lines: $(cat terminal.json)"
  [ "$(grep -c '"role": "user"' terminal.json)" = 2 ] || complain "/undo at a terminal: $(cat terminal.json)"

  keys_pressed() {
    wait_for '> '
    printf 'Tell me a story.\r'
    wait_for 'story.'
    sleep 0.3
    printf '\003'
    wait_for '> '
    printf '\003'
    wait_for 'Ctrl-C again'
    wait_for '> '
    printf '\003'
    wait_for 'Script done'
  }
  terminal -n 2000 --ctx 2048
}

piped
failing
saving
session
interrupted_pipe
at_a_terminal
if [ "$failures" != 0 ]; then
  echo "$failures checks failed"
  exit 1
fi
echo "all checks passed"
