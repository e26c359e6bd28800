// SPDX-License-Identifier: MIT
#include "input_walk.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "console.hpp"
#include "interrupt.hpp"
#include "page_bytes.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

using FileId = std::pair<dev_t, ino_t>;

FileId id_of(const struct stat& info) {
  return {info.st_dev, info.st_ino};
}

// File systems whose files are views of the kernel: reading them is slow, endless or has effects.
constexpr std::array<long, 9> kKernelFileSystems{
    PROC_SUPER_MAGIC,    SYSFS_MAGIC,      DEBUGFS_MAGIC,      TRACEFS_MAGIC, CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC, SECURITYFS_MAGIC, DEVPTS_SUPER_MAGIC, BPF_FS_MAGIC};

bool is_kernel_file_system(int fd) noexcept {
  struct statfs info {};
  if (::fstatfs(fd, &info) != 0) return false;
  return std::find(kKernelFileSystems.begin(), kKernelFileSystems.end(),
                   static_cast<long>(info.f_type)) != kKernelFileSystems.end();
}

std::string_view kind_of(mode_t mode) noexcept {
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISBLK(mode)) return "a block device";
  return "of an unknown kind";
}

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

std::string joined(const std::string& directory, std::string_view name) {
  return fmt::format("{}{}{}", directory, directory.ends_with('/') ? "" : "/", name);
}

/// What to do about it, where that is not plain.
std::string_view advice_for(int error) noexcept {
  switch (error) {
    case ENOENT:
      return " (check the spelling)";
    case EACCES:
      return " (run as a user who may read it, or leave it out)";
    case ELOOP:
      return " (symbolic links that lead in a circle)";
    case ENAMETOOLONG:
      return " (name a directory further down)";
    case EMFILE:
      return " (raise the limit of open files: ulimit -n)";
    default:
      return "";
  }
}

}  // namespace

std::string file_problem(const std::string& path, int error) {
  struct stat link {};
  if (error == ENOENT && ::lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
    return fmt::format("{}: symbolic link to a file that does not exist", in_quotes(path));
  }
  return fmt::format("{}: {}{}", in_quotes(path), std::strerror(error), advice_for(error));
}

namespace {

class Walk {
 public:
  Walk(std::uint64_t limit_pages, Console& console)
      : limit_pages_(limit_pages), console_(console) {}

  void named_path(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      complain(path, errno);
    } else if (S_ISREG(info.st_mode)) {
      add_file(path, info);
    } else if (S_ISDIR(info.st_mode)) {
      directory_tree(path);
    } else {
      list_.unreadable.add(fmt::format("{} is {}; only regular files and directories are packed",
                                       in_quotes(path), kind_of(info.st_mode)));
    }
  }

  InputList take() { return std::move(list_); }

 private:
  void complain(const std::string& path, int error) {
    list_.unreadable.add(file_problem(path, error));
  }

  void add_file(std::string path, const struct stat& info) {
    if (info.st_size == 0) {
      ++list_.empty_files;
      return;
    }
    const auto size_bytes = static_cast<std::uint64_t>(info.st_size);
    if (list_.listed_pages >= limit_pages_) {
      ++list_.beyond_files;
      list_.beyond_bytes += size_bytes;
      return;
    }
    if (!seen_.insert(id_of(info)).second) {
      ++list_.duplicates;
      return;
    }
    list_.files.push_back({std::move(path), size_bytes});
    list_.listed_bytes += size_bytes;
    list_.listed_pages += pages_of(size_bytes);
  }

  // An explicit stack: depth is the tree's, not ours to choose.
  void directory_tree(const std::string& root) {
    std::vector<std::string> waiting{root};
    while (!waiting.empty()) {
      const std::string path = std::move(waiting.back());
      waiting.pop_back();
      std::vector<std::string> inside = one_directory(path, /*named=*/path == root);
      std::move(inside.rbegin(), inside.rend(), std::back_inserter(waiting));
    }
  }

  /// Adds the directory's files and returns its directories, sorted.
  std::vector<std::string> one_directory(const std::string& path, bool named) {
    stop_if_interrupted();
    report();
    const int follow = named ? 0 : O_NOFOLLOW;
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow);
    if (fd < 0) {
      complain(path, errno);
      return {};
    }
    const Directory directory(::fdopendir(fd));
    if (!directory) {
      complain(path, errno);
      ::close(fd);
      return {};
    }
    struct stat info {};
    if (::fstat(fd, &info) != 0) {
      complain(path, errno);
      return {};
    }
    if (!seen_directories_.insert(id_of(info)).second) {
      ++list_.duplicates;
      return {};
    }
    if (is_kernel_file_system(fd)) {
      ++list_.special;
      return {};
    }
    std::vector<std::string> directories;
    for (const std::string& name : names_in(directory.get(), path)) {
      entry(fd, path, name, directories);
    }
    return directories;
  }

  std::vector<std::string> names_in(DIR* directory, const std::string& path) {
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* item = ::readdir(directory)) {
      const std::string_view name = item->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) complain(path, errno);
    std::sort(names.begin(), names.end());
    return names;
  }

  void entry(int directory_fd, const std::string& directory, const std::string& name,
             std::vector<std::string>& directories) {
    struct stat info {};
    std::string path = joined(directory, name);
    if (::fstatat(directory_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      complain(path, errno);
    } else if (S_ISREG(info.st_mode)) {
      add_file(std::move(path), info);
    } else if (S_ISDIR(info.st_mode)) {
      directories.push_back(std::move(path));
    } else if (S_ISLNK(info.st_mode)) {
      ++list_.links;
    } else {
      ++list_.special;
    }
  }

  /// Walking a disk takes seconds and its end is unknown: a line of its own, without a share.
  void report() {
    if (list_.files.empty() || !console_.drawing_due() || !console_.shows_progress()) return;
    std::string line = fmt::format("looking for files  {}  {}",
                                   format_count(list_.files.size() + list_.beyond_files),
                                   format_bytes(list_.listed_bytes + list_.beyond_bytes));
    const unsigned columns = console_.message_columns();
    line.resize(std::min<std::size_t>(line.size(), columns > 0 ? columns - 1 : 0));
    console_.draw_line(line);
  }

  std::uint64_t limit_pages_;
  Console& console_;
  InputList list_;
  std::set<FileId> seen_;
  std::set<FileId> seen_directories_;
};

}  // namespace

InputList walk_inputs(std::span<const std::string> paths, std::uint64_t limit_pages,
                      Console& console) {
  Walk walk(limit_pages, console);
  for (const std::string& path : paths) walk.named_path(path);
  console.clear_line();
  return walk.take();
}

}  // namespace mmkit::tool
