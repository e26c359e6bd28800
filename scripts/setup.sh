#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# setup.sh - installs the Debian packages that are missing, and nothing else.
#
#   scripts/setup.sh            everything: all compilers, sanitizers, coverage, fuzzing, benchmarks and their peers
#   scripts/setup.sh --test     what scripts/test.sh needs
#   scripts/setup.sh --minimal  what scripts/demo.sh needs
#   scripts/setup.sh --list     only prints the packages of the level that stands before it
#
# Asks nothing. Where it cannot install, it says what is needed. Set MMKIT_SKIP_SETUP=1 where packages come another way.
# Exit codes: 0 all is there; 1 an installation failed; 2 wrong usage; 3 not a system with apt; 4 neither root nor sudo.
set -euo pipefail

# Without these the level cannot do its work.
minimal=(cmake ninja-build g++ pkg-config libfmt-dev libcli11-dev nlohmann-json3-dev liblz4-dev libzstd-dev)
test=(python3 libgtest-dev libgmock-dev librapidcheck-dev dpkg-dev file gdb)
everything=(git libbenchmark-dev valgrind libc6-dbg systemtap-sdt-dev binutils gcovr abigail-tools doxygen)
# Particular versions and peers, which a newer release of the system may have dropped: reported, not fatal.
wished=(clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14 clang-19 libclang-rt-19-dev libjemalloc-dev
        libmimalloc-dev libgoogle-perftools-dev libboost-dev)

needed=("${minimal[@]}" "${test[@]}" "${everything[@]}")
optional=("${wished[@]}")
list_only=false
for argument in "$@"; do
  case "$argument" in
    --minimal) needed=("${minimal[@]}") optional=() ;;
    --test) needed=("${minimal[@]}" "${test[@]}") optional=() ;;
    --list) list_only=true ;;
    *)
      sed -n '4,12s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
done

if $list_only; then
  printf '%s\n' "${needed[@]}" ${optional[@]+"${optional[@]}"}
  exit 0
fi
if [[ ${MMKIT_SKIP_SETUP:-0} == 1 ]]; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  {
    echo "setup: this system has no apt. mmkit needs, under whatever names your system gives them (Debian's are):"
    printf '  %s\n' "${needed[@]}"
    if ((${#optional[@]})); then
      echo "and for the whole of CI also:"
      printf '  %s\n' "${optional[@]}"
    fi
    echo "When they are installed, run again with MMKIT_SKIP_SETUP=1."
  } >&2
  exit 3
fi

# Prints those of its arguments that are not installed.
missing_of() {
  local package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      echo "$package"
    fi
  done
}

mapfile -t missing < <(missing_of "${needed[@]}" ${optional[@]+"${optional[@]}"})
if ((${#missing[@]} == 0)); then
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup: not root and no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 4
  fi
  as_root=(sudo)
fi
# Waits for another installation that is under way instead of failing on its lock.
apt() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "setup: failed: $*" >&2
    exit 1
  fi
}

echo "setup: installing ${missing[*]}"
run apt update
installable=()
for package in "${missing[@]}"; do
  policy=$(apt-cache policy "$package")
  if [[ $policy =~ Candidate:\ [^\(] ]]; then
    installable+=("$package")
  elif [[ " ${needed[*]} " == *" $package "* ]]; then
    echo "setup: this system's package sources have no $package, which is needed" >&2
    exit 1
  else
    echo "setup: this system has no package $package; what needs it will say so"
  fi
done
if ((${#installable[@]})); then
  run apt install --no-install-recommends "${installable[@]}"
fi
