// SPDX-License-Identifier: MIT
#include <mmkit/percpu/object_pin.hpp>

#if MMKIT_PERCPU_HAS_RSEQ

#include <dlfcn.h>
#include <link.h>

// Weak: a program that is linked statically has no dynamic linker, and nothing to pin.
#pragma weak dladdr1
#pragma weak dlopen
#pragma weak dlclose

namespace mmkit::detail {

void percpu_pin_object(const void* address) noexcept {
  if (&dladdr1 == nullptr || &dlopen == nullptr || &dlclose == nullptr) return;
  Dl_info info;
  link_map* object = nullptr;
  if (::dladdr1(address, &info, reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP) == 0) return;
  if (object == nullptr || object->l_name == nullptr || object->l_name[0] == '\0') return;
  void* const handle = ::dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  if (handle != nullptr) ::dlclose(handle);  // the mark stays
}

}  // namespace mmkit::detail

#endif
