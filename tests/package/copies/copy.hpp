// SPDX-License-Identifier: MIT
//
// Copy - what copies_test.cpp asks of a shared object that has a mmkit of its own.
//
// No type of mmkit's stands here: nothing of one copy is to go into another.
#pragma once

struct Copy {
  const char* (*mode_reason)();
  /// Registers a driver that makes no pools; false when there is one of that name.
  bool (*register_driver)(const char* type);
  bool (*knows_driver)(const char* type);
  /// How many pools of this copy ended with live objects.
  unsigned (*leaks)();

  /// A pool of the driver; nullptr when there is none. Storing makes an object, compares and frees it.
  void* (*make_pool)(const char* type);
  bool (*store_and_free)(void* pool);
  bool (*store_and_forget)(void* pool);
  void (*end_pool)(void* pool);

  /// A per-CPU variable, zero on every CPU.
  void* (*make_count)();
  void (*count)(void* variable);
  long (*sum)(void* variable);
};

/// The one symbol of such an object: dlsym(handle, "copy_of_mmkit").
extern "C" const Copy copy_of_mmkit;
