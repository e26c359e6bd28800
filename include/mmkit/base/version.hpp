// SPDX-License-Identifier: MIT
//
// Version - which mmkit these headers are of.
//
// Before 1.0 a new minor version may break its users, so what is compiled apart (a plug-in, say)
// compares the minor version too. The build's version is the same: tests/unit says so.
#pragma once

#define MMKIT_VERSION_MAJOR 0
#define MMKIT_VERSION_MINOR 1
#define MMKIT_VERSION_PATCH 0
