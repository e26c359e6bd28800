// SPDX-License-Identifier: MIT
#undef MMKIT_CHECK_LEVEL
#define MMKIT_CHECK_LEVEL 1
#define MMKIT_LEVEL_SUITE CheckLevel1
#include "unit/check_level_cases.hpp"
