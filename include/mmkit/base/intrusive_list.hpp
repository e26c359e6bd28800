// SPDX-License-Identifier: MIT
//
// IntrusiveList - a doubly linked list whose links lie in its elements.
//
// Allocates nothing and owns nothing: an element must leave the list before it ends.
//
//        +------------------------------------------+
//        v                                          |
//     [list] <--> [element] <--> [element] <--> ... +      a ring through the list itself
//
// An element that may be in several lists at once derives from one ListNode a list, told apart by
// a tag type.
// Invariants: 1 next and prev of neighbours name each other  2 an element in no list names itself
// Locking:    none: caller serialises
// Complexity: everything O(1), but validate() and size() O(n)
#pragma once

#include <cstddef>
#include <mmkit/base/check.hpp>

namespace mmkit {

/// What an element of a list derives from. A copy or a move would tear the ring, so there is none.
template <class Tag = void>
class ListNode {
 public:
  constexpr ListNode() noexcept : prev_(this), next_(this) {}
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;

  /// Whether the element is in a list.
  bool is_linked() const noexcept { return next_ != this; }

 private:
  template <class T, class U>
  friend class IntrusiveList;

  ListNode* prev_;
  ListNode* next_;
};

/// A list of T, which derives from ListNode<Tag>. Thread safety: caller serialises.
template <class T, class Tag = void>
class IntrusiveList {
  using Node = ListNode<Tag>;

 public:
  constexpr IntrusiveList() noexcept = default;
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  bool empty() const noexcept { return !head_.is_linked(); }
  /// The first or the last element; nullptr when the list is empty.
  T* front() const noexcept { return element(head_.next_); }
  T* back() const noexcept { return element(head_.prev_); }
  /// The neighbour of an element of this list; nullptr at the end.
  T* next(const T& of) const noexcept { return element(node(of)->next_); }
  T* prev(const T& of) const noexcept { return element(node(of)->prev_); }

  /// Puts an element that is in no list of this tag at an end.
  void push_front(T& item) noexcept { insert_after(&head_, node(item)); }
  void push_back(T& item) noexcept { insert_after(head_.prev_, node(item)); }
  /// Puts an element that is in no list of this tag behind one of this list.
  void insert_after(T& where, T& item) noexcept { insert_after(node(where), node(item)); }
  /// Takes an element of this list out of it.
  void remove(T& item) noexcept { unlink(node(item)); }
  /// Takes the first element out; nullptr when there is none.
  T* pop_front() noexcept {
    T* first = front();
    if (first != nullptr) unlink(node(*first));
    return first;
  }
  T* pop_back() noexcept {
    T* last = back();
    if (last != nullptr) unlink(node(*last));
    return last;
  }
  /// Moves an element of this list to its front.
  void move_to_front(T& item) noexcept {
    if (head_.next_ == node(item)) return;
    unlink(node(item));
    insert_after(&head_, node(item));
  }

  /// Fetches what remove() of this element will write, for a list whose elements are cold.
  void prefetch_neighbours(const T& of) const noexcept {
    __builtin_prefetch(node(of)->prev_, /*for writing=*/1);
    __builtin_prefetch(node(of)->next_, /*for writing=*/1);
  }

  /// How many elements. Complexity: O(n).
  std::size_t size() const noexcept {
    std::size_t count = 0;
    for (const Node* at = head_.next_; at != &head_; at = at->next_) ++count;
    return count;
  }

  /// Whether the ring is whole and has at most `limit` elements. Complexity: O(n).
  bool validate(std::size_t limit) const noexcept {
    std::size_t count = 0;
    const Node* before = &head_;
    for (const Node* at = head_.next_; at != &head_; at = at->next_) {
      if (at == nullptr || at->prev_ != before || ++count > limit) return false;
      before = at;
    }
    return head_.prev_ == before;
  }

 private:
  static Node* node(T& item) noexcept { return static_cast<Node*>(&item); }
  static const Node* node(const T& item) noexcept { return static_cast<const Node*>(&item); }
  T* element(Node* of) const noexcept { return of == &head_ ? nullptr : static_cast<T*>(of); }

  static void insert_after(Node* where, Node* fresh) noexcept {
    MMKIT_ASSERT(!fresh->is_linked());
    fresh->prev_ = where;
    fresh->next_ = where->next_;
    where->next_->prev_ = fresh;
    where->next_ = fresh;
  }
  static void unlink(Node* gone) noexcept {
    MMKIT_ASSERT(gone->is_linked());
    gone->prev_->next_ = gone->next_;
    gone->next_->prev_ = gone->prev_;
    gone->prev_ = gone;
    gone->next_ = gone;
  }

  Node head_{};
};

}  // namespace mmkit
