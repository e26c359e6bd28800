// SPDX-License-Identifier: MIT
#undef MMKIT_CHECK_LEVEL
#define MMKIT_CHECK_LEVEL 2
#define MMKIT_LEVEL_SUITE CheckLevel2
#include "unit/check_level_cases.hpp"
