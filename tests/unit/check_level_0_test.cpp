// SPDX-License-Identifier: MIT
#undef MMKIT_CHECK_LEVEL
#define MMKIT_CHECK_LEVEL 0
#define MMKIT_LEVEL_SUITE CheckLevel0
#include "unit/check_level_cases.hpp"
