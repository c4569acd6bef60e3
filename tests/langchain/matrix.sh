#!/bin/sh
# Runs tests/langchain with the oldest langchain-core that is supported and with the newest there is, each in a virtual
# environment of its own below .venv. Called by `make langchain-matrix`; arguments go to pytest.
# Left out is the table of docs/langchain.md: it speaks of the langchain-openai that is locked.
set -eu
cd "$(dirname "$0")/../.."

oldest=$(sed -n 's/^langchain = \["langchain-core>=\([0-9.]*\)".*/\1/p' pyproject.toml)
case "$oldest" in
  *.*.*) ;;
  *.*) oldest="$oldest.0" ;;
  *) echo "pyproject.toml names no oldest langchain-core" >&2; exit 1 ;;
esac

run() {
  name=$1; shift
  wanted=$1; shift
  place=".venv/langchain-$name"
  test -d "$place" || "${PYTHON:-python3}" -m venv "$place"
  "$place/bin/pip" install -q --disable-pip-version-check --upgrade -e '.[local,langchain]' "$wanted" \
    langchain-tests hypothesis openai pytest pytest-timeout
  echo "$name: $("$place/bin/pip" list 2>/dev/null | grep -E '^langchain-(core|tests) ' | tr -s ' ' | tr '\n' ' ')"
  "$place/bin/pytest" tests/langchain --ignore tests/langchain/test_which_class.py "$@"
}

# stream_events(version="v3") is younger than 1.0.
run oldest "langchain-core==$oldest" -k "not stream_events_v3" "$@"
run newest "langchain-core" "$@"
