#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# docs.sh - makes the site: the reference of the public headers, the documents and the tutorials, in build/docs/html.
#
# A dead link in a document or a warning of Doxygen is a failure; warnings go to standard error. Needs doxygen 1.9 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
if (($#)); then
  sed -n '4,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

rm -rf build/docs
mkdir -p build/docs
scripts/site_pages.py . build/docs/pages
doxygen docs/Doxyfile
echo "docs: build/docs/html/index.html"
