// SPDX-License-Identifier: MIT
//
// A program beside mmkit in the same build, which does not use it.
int main() {}
