#!/bin/sh
# Runs tests/langchain with the oldest langchain-core that is supported and with the newest there is, each in a virtual
# environment of its own below .venv. Called by `make langchain-matrix`; arguments go to pytest.
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
    langchain-tests langchain-openai hypothesis pytest pytest-timeout
  echo "$name: $("$place/bin/pip" list 2>/dev/null | grep -E '^langchain-(core|tests|openai) ' | tr -s ' ' | tr '\n' ' ')"
  "$place/bin/pytest" tests/langchain "$@"
}

run oldest "langchain-core==$oldest" "$@"
run newest "langchain-core" "$@"
