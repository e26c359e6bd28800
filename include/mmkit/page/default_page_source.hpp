// SPDX-License-Identifier: MIT
//
// Default page source - the one that everything takes when it is given none.
#pragma once

#include <mmkit/page/page_source.hpp>

namespace mmkit {

/// The page source of the process: private memory of up to 64 GiB of reserved addresses, less where
/// the address space is limited, down to 64 MiB. Made on first use and never destroyed, so that an
/// object of static life may use it at exit. When not even that can be reserved, the failure
/// handler hears of it and the program ends. Thread safety: safe. Complexity: O(1) after the first
/// use.
PageSource& default_page_source() noexcept;

}  // namespace mmkit
