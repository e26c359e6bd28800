#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# report.sh - runs every benchmark beside every peer, and makes a report: build/report/report.md with its pictures.
#
#   scripts/report.sh              builds the release preset and measures; takes its time, on a machine that does nothing else
#   scripts/report.sh --rounds=N   so many rounds of each comparison, instead of the benchmarks' own number
#   scripts/report.sh --quick      few rounds on a part of the traces: shows that everything runs; the times mean little
#   scripts/report.sh --bench=DIR  takes the programs in DIR and builds nothing; may stand with the others
#
# Exit codes: 0 all is as promised but for times; 1 a figure that looks at no clock is not (the report is made, and says which);
# 2 wrong usage, or a benchmark that does not run.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=build/release/bench
build=true
flags=()
note="Made by \`scripts/report.sh${*:+ $*}\`."
for argument in "$@"; do
  case "$argument" in
    --quick)
      flags+=(--quick)
      note+=" A quick run: the times mean little."
      ;;
    --rounds=*) flags+=("$argument") ;;
    --bench=*) programs=${argument#--bench=} build=false ;;
    *)
      sed -n '4,12s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
done

names=(genalloc page percpu zpool)
if $build; then
  scripts/setup.sh
  cmake --preset release --log-level=WARNING >/dev/null
  cmake --build --preset release --target "${names[@]/#/mmkit_bench_}" churn_series -- --quiet
fi

out=build/report
rm -rf "$out"
mkdir -p "$out"
export MMKIT_BENCH_DATA=${MMKIT_BENCH_DATA:-$PWD/bench/data}
failed=0
for name in "${names[@]}"; do
  echo "-- $name"
  status=0
  "$programs/mmkit_bench_$name" ${flags[@]+"${flags[@]}"} >"$out/$name.txt" || status=$?
  if ((status > 1)); then
    echo "report: mmkit_bench_$name ended with $status" >&2
    exit 2
  fi
  if ((status == 1)); then
    echo "report: mmkit_bench_$name: a figure is not what it must be" >&2
    failed=1
  fi
done
echo "-- churn"
bench/plot/churn.py "$programs/churn_series" >"$out/churn.svg"
bench/plot/report.py "$out" "$note"
exit $failed
