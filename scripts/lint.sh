#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# lint.sh - format, layers and the other checks that need no build.
#
#   scripts/lint.sh          reports
#   scripts/lint.sh --fix    formats the files in place first
#   scripts/lint.sh --tidy   also runs clang-tidy over src, from the dev preset's compile commands (slow; not in CI)
#
# clang-format is version 14, since every version formats differently.
set -euo pipefail
cd "$(dirname "$0")/.."

clang_format=${CLANG_FORMAT:-clang-format-14}
mapfile -t sources < <(find include src tests bench tools examples -name '*.hpp' -o -name '*.cpp' | sort)

for argument in "$@"; do
  case "$argument" in
    --fix) "$clang_format" -i "${sources[@]}" ;;
    --tidy)
      cmake --preset dev >/dev/null
      clang-tidy-14 -p build/dev --quiet src/*/*.cpp
      ;;
    *)
      echo "usage: $0 [--fix] [--tidy]" >&2
      exit 2
      ;;
  esac
done

failed=0
check() {
  local what=$1
  shift
  if "$@"; then
    echo "ok      $what"
  else
    echo "FAILED  $what"
    failed=1
  fi
}

scripts_parse() {
  local script
  for script in scripts/*.sh .ci/run tests/package/*.sh; do
    bash -n "$script" || return 1
    [[ -x $script ]] || { echo "$script is not executable" && return 1; }
  done
}
# Paths of one person's machine have no place in a repository.
no_home_paths() {
  ! git ls-files -z | xargs -0 grep -InE '(^|[^A-Za-z0-9_.])/(home|root)/[a-z]' --
}
no_unfinished() {
  ! git ls-files -z '*.hpp' '*.cpp' '*.cmake' '*CMakeLists.txt' '*.py' | xargs -0 grep -InE '\b(TODO|FIXME|XXX)\b' --
}

check "clang-format (${#sources[@]} files)" "$clang_format" --dry-run -Werror "${sources[@]}"
check "layers and the form of files" python3 tests/lint/layers.py .
check "layers.py catches each fault" python3 tests/lint/layers_test.py -b
check "doc_snippets.py catches each fault" python3 tests/lint/doc_snippets_test.py -b
check "links in the documents" python3 scripts/site_pages.py .
check "site_pages.py catches each fault" python3 tests/lint/site_pages_test.py -b
check "scripts parse and are executable" scripts_parse
check "no path of one machine" no_home_paths
check "nothing left to do in the code" no_unfinished
exit $failed
