// SPDX-License-Identifier: MIT
//
// Drivers from shared objects, in a program that links mmkit statically and exports nothing: every
// refusal by its name, what is loaded and for how long, and a file that is swapped while it is
// looked at.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/plugin.hpp>
#include <thread>

#include "plugin/plugin_directory.hpp"
#include "support/captured_failure.hpp"
#include "support/child_process.hpp"
#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/stub_driver.hpp"
#include "zpool/plugin_file.hpp"

namespace mmkit {
namespace {

using testing::EnvironmentVariable;
using ::testing::HasSubstr;
using testing::HeardLoader;
using testing::is_loaded;
using testing::open_descriptors;
using testing::PluginDirectory;
using testing::read_file;

static_assert(std::is_constructible_v<DriverRegistry::Loader, SharedObjectLoader>);

std::unique_ptr<Zpool> make_pool(DriverRegistry& registry, std::string_view type) {
  Result<std::unique_ptr<Zpool>> pool = Zpool::create(type, {.name = "own", .registry = &registry});
  return pool ? *std::move(pool) : nullptr;
}

// ---------------------------------------------------------------- what is refused

class PluginRefused : public ::testing::Test {
 protected:
  // Asks for a type and expects one refusal; its message.
  std::string expect_refused(const std::string& directory, const std::string& type,
                             PluginFault fault, Errc code) {
    const std::size_t descriptors = open_descriptors();
    HeardLoader heard(directory);
    DriverRegistry registry;
    const Status status = heard.loader(registry, type);
    EXPECT_FALSE(status);
    if (!status) {
      EXPECT_EQ(status.error(), code);
    }
    EXPECT_EQ(open_descriptors(), descriptors);
    EXPECT_EQ(heard.refusals.size(), 1u);
    if (heard.refusals.size() != 1) return {};
    const testing::Refusal& refusal = heard.refusals.front();
    EXPECT_EQ(name(refusal.fault), name(fault)) << refusal.message;
    EXPECT_EQ(refusal.code, code);
    // Nobody need listen.
    EXPECT_EQ(SharedObjectLoader(directory).load(type).error(), code);
    return refusal.message;
  }
  std::string expect_refused(const std::string& type, PluginFault fault, Errc code) {
    return expect_refused(directory_.path(), type, fault, code);
  }
  // What the plug-in "faulty" is refused for when it has a fault.
  std::string expect_faulty(const char* how, PluginFault fault, Errc code) {
    directory_.add_faulty();
    const EnvironmentVariable says("MMKIT_TEST_PLUGIN_FAULT", how);
    std::string message = expect_refused("faulty", fault, code);
    EXPECT_FALSE(is_loaded(directory_.file("faulty"))) << "what is refused is unloaded";
    return message;
  }

  PluginDirectory directory_;
};

TEST_F(PluginRefused, ForNamesThatAreNoTypes) {
  directory_.add_runs();
  for (const std::string& type :
       {std::string(), std::string("Runs"), std::string("../runs"), std::string("a/b"),
        std::string("."), std::string("runs.so"), std::string("_a"), std::string("1a"),
        std::string("a-b"), std::string("a b"), std::string("runs\0", 5), std::string("a\nb"),
        std::string(33, 'a')}) {
    const std::string message =
        expect_refused(type, PluginFault::bad_type_name, Errc::invalid_argument);
    EXPECT_EQ(message, "zpool plug-in '': " + directory_.path() + ": no type name");
  }
  expect_refused(std::string(32, 'a'), PluginFault::no_file, Errc::not_found);
}

TEST_F(PluginRefused, ForDirectoriesThatAreNoAbsolutePaths) {
  directory_.add_runs();
  const std::string& path = directory_.path();
  for (const std::string& directory :
       {std::string(), std::string("plugins"), std::string("./plugins"), path + "/.",
        path + "/sub/..", path + "/./", path + std::string("\0", 1), std::string("/") + '\0',
        "/" + std::string(5000, '/') + "x"}) {
    expect_refused(directory, "runs", PluginFault::bad_directory, Errc::invalid_argument);
  }
}

TEST_F(PluginRefused, ForDirectoriesThatAreNotThere) {
  const std::string& path = directory_.path();
  expect_refused(path + "/none", "runs", PluginFault::no_directory, Errc::not_found);
  expect_refused(path + "/none/none", "runs", PluginFault::no_directory, Errc::not_found);
  directory_.write_at(path + "/file", "");
  const std::string message = expect_refused(path + "/file/none", "runs",
                                             PluginFault::directory_not_readable, Errc::io_error);
  EXPECT_THAT(message, HasSubstr("directory cannot be opened: "));
  expect_refused(path + "/" + std::string(300, 'n'), "runs", PluginFault::directory_not_readable,
                 Errc::io_error);
}

TEST_F(PluginRefused, ForDirectoriesThatAreLinksOrFiles) {
  directory_.add_runs();
  const std::string& path = directory_.path();
  const std::string link = path + "/link";
  ASSERT_EQ(::symlink(path.c_str(), link.c_str()), 0);
  for (const char* slashes : {"", "/", "//"}) {
    expect_refused(link + slashes, "runs", PluginFault::directory_is_symlink, Errc::not_permitted);
  }
  directory_.write_at(path + "/file", "");
  expect_refused(path + "/file", "runs", PluginFault::not_a_directory, Errc::not_permitted);
  // Slashes at the end of a directory itself are no harm.
  EXPECT_TRUE(SharedObjectLoader(path + "//").load("runs"));
}

TEST_F(PluginRefused, ForDirectoriesThatOthersMayWrite) {
  directory_.add_runs();
  const char* const path = directory_.path().c_str();
  for (const mode_t mode : {0720u, 0702u, 0777u, 01777u}) {
    ASSERT_EQ(::chmod(path, mode), 0);
    const std::string message =
        expect_refused("runs", PluginFault::directory_writable_by_others, Errc::not_permitted);
    EXPECT_THAT(message, HasSubstr("directory is writable by others: owner "));
  }
  for (const mode_t mode : {0755u, 0555u, 0700u}) {
    ASSERT_EQ(::chmod(path, mode), 0);
    EXPECT_TRUE(SharedObjectLoader(path).load("runs"));
  }
}

TEST_F(PluginRefused, ForFilesThatAreNotThere) {
  EXPECT_EQ(expect_refused("runs", PluginFault::no_file, Errc::not_found),
            "zpool plug-in 'runs': " + directory_.file("runs") + ": no such file");
}

TEST_F(PluginRefused, ForFilesThatAreLinksOrNoFiles) {
  directory_.write_at(directory_.path() + "/real", read_file(MMKIT_RUNS_PLUGIN));
  const std::string file = directory_.file("runs");
  ASSERT_EQ(::symlink("real", file.c_str()), 0);
  expect_refused("runs", PluginFault::file_is_symlink, Errc::not_permitted);
  ASSERT_EQ(::unlink(file.c_str()), 0);
  ASSERT_EQ(::symlink("nowhere", file.c_str()), 0);
  expect_refused("runs", PluginFault::file_is_symlink, Errc::not_permitted);
  ASSERT_EQ(::unlink(file.c_str()), 0);

  ASSERT_EQ(::mkdir(file.c_str(), 0700), 0);
  expect_refused("runs", PluginFault::not_a_file, Errc::not_permitted);
  ASSERT_EQ(::rmdir(file.c_str()), 0);
  // A pipe that nobody writes to stops whoever opens it, unless he takes care.
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  expect_refused("runs", PluginFault::not_a_file, Errc::not_permitted);
  ASSERT_EQ(::unlink(file.c_str()), 0);

  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(file.size(), sizeof address.sun_path);
  file.copy(address.sun_path, file.size());
  ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::string message =
      expect_refused("runs", PluginFault::file_not_readable, Errc::io_error);
  EXPECT_THAT(message, HasSubstr("file cannot be opened: "));
  ::close(socket);
}

TEST_F(PluginRefused, ForFilesThatOthersMayWrite) {
  directory_.add_runs();
  for (const mode_t mode : {0664u, 0646u, 0666u}) {
    ASSERT_EQ(::chmod(directory_.file("runs").c_str(), mode), 0);
    const std::string message =
        expect_refused("runs", PluginFault::file_writable_by_others, Errc::not_permitted);
    EXPECT_THAT(message, HasSubstr("file is writable by others: owner "));
  }
  ASSERT_EQ(::chmod(directory_.file("runs").c_str(), 0444), 0);
  EXPECT_TRUE(SharedObjectLoader(directory_.path()).load("runs"));
}

struct stat found(mode_t mode, uid_t owner) {
  struct stat found {};
  found.st_mode = mode;
  found.st_uid = owner;
  return found;
}

// Only root can make a file of another user's, so owners are looked at as numbers, too.
TEST_F(PluginRefused, ForOwnersWhoAreNeitherRootNorTheUser) {
  using detail::judge_plugin_directory;
  using detail::judge_plugin_file;
  constexpr uid_t kUser = 1000;
  constexpr uid_t kOther = 1001;
  for (const uid_t owner : {uid_t{0}, kUser}) {
    EXPECT_EQ(judge_plugin_directory(found(S_IFDIR | 0755, owner), kUser), std::nullopt);
    EXPECT_EQ(judge_plugin_file(found(S_IFREG | 0755, owner), kUser), std::nullopt);
  }
  for (const uid_t user : {uid_t{0}, kUser}) {
    EXPECT_EQ(judge_plugin_directory(found(S_IFDIR | 0755, kOther), user),
              PluginFault::directory_of_another_user);
    EXPECT_EQ(judge_plugin_file(found(S_IFREG | 0755, kOther), user),
              PluginFault::file_of_another_user);
  }
  if (::geteuid() != 0) return;
  directory_.add_runs();
  ASSERT_EQ(::chown(directory_.file("runs").c_str(), kOther, 0), 0);
  const std::string of_file =
      expect_refused("runs", PluginFault::file_of_another_user, Errc::not_permitted);
  EXPECT_THAT(of_file, HasSubstr(": owner 1001, mode 0644"));
  ASSERT_EQ(::chown(directory_.path().c_str(), kOther, 0), 0);
  expect_refused("runs", PluginFault::directory_of_another_user, Errc::not_permitted);
}

TEST_F(PluginRefused, ForWhatIsNoSharedObject) {
  for (const char* bytes : {"", "#!/bin/sh\n", "\177ELF"}) {
    directory_.write("runs", bytes);
    const std::string message = expect_refused("runs", PluginFault::not_loadable, Errc::bad_format);
    EXPECT_THAT(message, HasSubstr("cannot be loaded: /proc/"));
  }
}

TEST_F(PluginRefused, ForSharedObjectsThatAreNoPlugins) {
  std::string bytes = read_file(MMKIT_RUNS_PLUGIN);
  constexpr std::string_view kEntry = "mmkit_zpool_plugin";
  for (std::size_t at = bytes.find(kEntry); at != std::string::npos; at = bytes.find(kEntry)) {
    bytes[at] = 'M';
  }
  directory_.write("runs", bytes);
  expect_refused("runs", PluginFault::no_entry_point, Errc::bad_format);
  EXPECT_FALSE(is_loaded(directory_.file("runs")));
}

TEST_F(PluginRefused, ForInterfacesThatAreNotOurs) {
  expect_faulty("interface", PluginFault::no_interface, Errc::bad_format);
  EXPECT_THAT(expect_faulty("version", PluginFault::other_version, Errc::bad_format),
              HasSubstr("interface is of another version: 2, wanted 1"));
  EXPECT_THAT(expect_faulty("size", PluginFault::other_size, Errc::bad_format),
              HasSubstr("interface is of another size: 32 bytes, wanted 40"));
  EXPECT_THAT(expect_faulty("abi", PluginFault::other_abi, Errc::bad_format),
              HasSubstr("was compiled for another program: mmkit 0.0, made up"));
  for (const char* member : {"null_abi", "null_type", "null_create", "null_destroy"}) {
    expect_faulty(member, PluginFault::incomplete_interface, Errc::bad_format);
  }
}

TEST_F(PluginRefused, ForDriversOfAnotherType) {
  EXPECT_THAT(expect_faulty("type", PluginFault::other_type, Errc::bad_format),
              HasSubstr("is a driver of another type: other"));
  expect_faulty("driver_type", PluginFault::other_type, Errc::bad_format);
  // A plug-in that was renamed.
  directory_.write("walks", read_file(MMKIT_RUNS_PLUGIN));
  EXPECT_THAT(expect_refused("walks", PluginFault::other_type, Errc::bad_format),
              HasSubstr(": runs"));
}

TEST_F(PluginRefused, ForDriversThatCannotBeMade) {
  EXPECT_THAT(expect_faulty("create", PluginFault::no_driver, Errc::busy),
              HasSubstr("could not make its driver: busy"));
}

TEST_F(PluginRefused, ByARegistryThatKnowsTheType) {
  directory_.add_runs();
  HeardLoader heard(directory_.path());
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(testing::make_stub("runs")));
  EXPECT_EQ(heard.loader(registry, "runs").error(), Errc::already_exists);
  ASSERT_EQ(heard.refusals.size(), 1u);
  EXPECT_EQ(heard.refusals.front().fault, PluginFault::not_registered);
  EXPECT_FALSE(is_loaded(directory_.file("runs")));
}

TEST(PluginFaults, HaveNames) {
  EXPECT_EQ(name(PluginFault::bad_type_name), "bad_type_name");
  EXPECT_EQ(name(PluginFault::file_is_symlink), "file_is_symlink");
  EXPECT_EQ(name(PluginFault::not_registered), "not_registered");
  EXPECT_EQ(name(static_cast<PluginFault>(200)), "unknown");
}

// ---------------------------------------------------------------- what is loaded

TEST(SharedObjectLoader, GivesARegistryWhatItLacks) {
  PluginDirectory directory;
  directory.add_runs();
  DriverRegistry registry;
  registry.set_loader(SharedObjectLoader(directory.path()));
  EXPECT_FALSE(registry.has_pool("none"));
  ASSERT_TRUE(registry.has_pool("runs"));
  EXPECT_TRUE(registry.traits("runs").value().can_shrink);

  const std::unique_ptr<Zpool> pool = make_pool(registry, "runs");
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(pool->type(), "runs");
  const Handle handle = pool->store(testing::make_pattern(4000, 1)).value();
  EXPECT_TRUE(
      testing::has_pattern(pool->map(handle, MapMode::read_only).const_bytes().first(4000), 1));
  pool->free(handle);
}

// The directory is looked at with each load, and a plug-in may come later.
TEST(SharedObjectLoader, FindsWhatComesLater) {
  PluginDirectory directory;
  DriverRegistry registry;
  registry.set_loader(SharedObjectLoader(directory.path()));
  EXPECT_FALSE(registry.has_pool("runs"));
  directory.add_runs();
  EXPECT_TRUE(registry.has_pool("runs"));
}

TEST(SharedObjectLoader, UnloadsWhenTheTypeIsUnregistered) {
  PluginDirectory directory;
  directory.add_runs();
  DriverRegistry registry;
  registry.set_loader(SharedObjectLoader(directory.path()));
  const std::size_t descriptors = open_descriptors();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(registry.has_pool("runs"));
    EXPECT_TRUE(is_loaded(directory.file("runs")));
    EXPECT_EQ(open_descriptors(), descriptors);
    std::unique_ptr<Zpool> pool = make_pool(registry, "runs");
    EXPECT_EQ(registry.unregister_driver("runs").error(), Errc::busy);
    pool.reset();
    EXPECT_TRUE(is_loaded(directory.file("runs")));
    EXPECT_TRUE(registry.unregister_driver("runs"));
    EXPECT_FALSE(is_loaded(directory.file("runs")));
  }
}

// The registry, the loader and the file may go first.
TEST(SharedObjectLoader, KeepsThePluginWhileAPoolLives) {
  std::unique_ptr<Zpool> pool;
  PluginDirectory directory;
  directory.add_runs();
  {
    DriverRegistry registry;
    registry.set_loader(SharedObjectLoader(directory.path()));
    pool = make_pool(registry, "runs");
  }
  ASSERT_NE(pool, nullptr);
  // Under another name, so that it can still be asked for.
  const std::string kept = directory.path() + "/kept";
  ASSERT_EQ(::rename(directory.file("runs").c_str(), kept.c_str()), 0);
  EXPECT_TRUE(is_loaded(kept));
  const Handle handle = pool->store(testing::make_pattern(100, 2)).value();
  EXPECT_TRUE(pool->validate());
  pool->free(handle);
  pool.reset();
  EXPECT_FALSE(is_loaded(kept));
}

TEST(SharedObjectLoader, KeepsThePluginWhileSomebodyHoldsItsDriver) {
  PluginDirectory directory;
  directory.add_runs();
  std::shared_ptr<const ZpoolDriver> driver =
      SharedObjectLoader(directory.path()).load("runs").value();
  std::shared_ptr<const ZpoolDriver> other = driver;
  driver.reset();
  EXPECT_TRUE(is_loaded(directory.file("runs")));
  EXPECT_EQ(other->type(), "runs");
  const std::weak_ptr<const ZpoolDriver> weak = other;
  other.reset();
  EXPECT_FALSE(is_loaded(directory.file("runs")));
  EXPECT_EQ(weak.lock(), nullptr);
}

// The second is opened through a descriptor of the same number, and must not be taken for the first.
TEST(SharedObjectLoader, TellsPluginsApartThatAreLoadedThroughOneDescriptor) {
  PluginDirectory directory;
  directory.add_runs();
  directory.add_faulty();
  const SharedObjectLoader loader(directory.path());
  const Result<std::shared_ptr<const ZpoolDriver>> first = loader.load("runs");
  const Result<std::shared_ptr<const ZpoolDriver>> second = loader.load("faulty");
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  EXPECT_EQ((*first)->type(), "runs");
  EXPECT_EQ((*second)->type(), "faulty");
}

TEST(SharedObjectLoader, ServesTwoRegistriesFromOneFile) {
  PluginDirectory directory;
  directory.add_runs();
  const SharedObjectLoader loader(directory.path());
  DriverRegistry one;
  DriverRegistry two;
  one.set_loader(loader);
  two.set_loader(loader);
  const std::unique_ptr<Zpool> of_one = make_pool(one, "runs");
  ASSERT_NE(of_one, nullptr);
  ASSERT_TRUE(two.has_pool("runs"));
  EXPECT_TRUE(two.unregister_driver("runs"));
  EXPECT_TRUE(is_loaded(directory.file("runs")));
  of_one->free(of_one->allocate(1).value());
}

// What it would call belongs to the copy that came first, and may be unloaded with that.
TEST(SharedObjectLoader, GivesAPluginToOneCopyOfTheLibraryAlone) {
  PluginDirectory directory;
  directory.add_runs();
  const auto driver = SharedObjectLoader(directory.path()).load("runs").value();
  void* const object = ::dlopen(directory.file("runs").c_str(), RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(object, nullptr);
  const auto entry =
      reinterpret_cast<const ZpoolPluginInterface* (*)()>(::dlsym(object, kZpoolPluginEntryPoint));
  ASSERT_NE(entry, nullptr);
  const ZpoolPluginHost other{};
  Errc why{};
  EXPECT_EQ(entry()->create(other, &why), nullptr);
  EXPECT_EQ(why, Errc::busy);
  ::dlclose(object);
}

TEST(SharedObjectLoader, LoadsOnceForManyThreadsOfARegistry) {
  PluginDirectory directory;
  directory.add_runs();
  DriverRegistry registry;
  std::atomic<int> loads{0};
  registry.set_loader([&, loader = SharedObjectLoader(directory.path())](DriverRegistry& asking,
                                                                         std::string_view type) {
    ++loads;
    return loader(asking, type);
  });
  std::barrier begin(4);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      begin.arrive_and_wait();
      const std::unique_ptr<Zpool> pool = make_pool(registry, "runs");
      EXPECT_NE(pool, nullptr);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loads, 1);
}

TEST(SharedObjectLoader, LoadsAndUnloadsOnManyThreadsAtOnce) {
  PluginDirectory directory;
  directory.add_runs();
  directory.add_faulty();
  const SharedObjectLoader loader(directory.path());
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      const std::string_view type = id % 2 == 0 ? "runs" : "faulty";
      for (std::size_t i = 0; i < testing::scaled(50, 5); ++i) {
        const Result<std::shared_ptr<const ZpoolDriver>> driver = loader.load(type);
        ASSERT_TRUE(driver);
        EXPECT_EQ((*driver)->type(), type);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(is_loaded(directory.file("runs")));
  EXPECT_FALSE(is_loaded(directory.file("faulty")));
}

// A file that may be loaded and one that may not take turns under one name. Each load gets the one
// or refuses the other; the code of the other never runs.
TEST(SharedObjectLoader, LoadsWhatItExaminedHoweverFilesAreSwapped) {
  PluginDirectory directory;
  const std::string good = read_file(MMKIT_FAULTY_PLUGIN);
  std::string evil = good;
  const std::size_t at = evil.find("marker=good");
  ASSERT_NE(at, std::string::npos);
  evil.replace(at, 11, "marker=evil");
  directory.write_at(directory.path() + "/good", good);
  directory.write_at(directory.path() + "/evil", evil, 0666);
  const std::string name = directory.file("faulty");
  const std::string next = directory.path() + "/next";
  const auto put = [&](const char* which) {
    EXPECT_EQ(::link((directory.path() + which).c_str(), next.c_str()), 0);
    EXPECT_EQ(::rename(next.c_str(), name.c_str()), 0);
    ::unlink(next.c_str());  // there still when both names were one file
  };
  put("/good");

  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    while (!stop) {
      put("/evil");
      std::this_thread::yield();
      put("/good");
      std::this_thread::yield();
    }
  });
  HeardLoader heard(directory.path());
  std::size_t loaded = 0;
  std::size_t tries = 0;
  const std::size_t wanted = testing::scaled(200, 20);
  // Until both were seen often, however slow the other thread is.
  while (loaded < wanted || heard.refusals.size() < wanted) {
    ASSERT_LT(++tries, std::size_t{1'000'000});
    const Result<std::shared_ptr<const ZpoolDriver>> driver = heard.loader.load("faulty");
    if (driver) {
      EXPECT_EQ((*driver)->type(), "faulty");
      ++loaded;
    }
    ASSERT_EQ(::getenv("MMKIT_TEST_PLUGIN_EVIL"), nullptr) << "code ran that nobody examined";
  }
  stop = true;
  swapper.join();
  for (const testing::Refusal& refusal : heard.refusals) {
    ASSERT_EQ(refusal.fault, PluginFault::file_writable_by_others) << refusal.message;
  }

  // The trace is one that a loaded evil file leaves.
  ASSERT_EQ(::chmod((directory.path() + "/evil").c_str(), 0644), 0);
  put("/evil");
  EXPECT_TRUE(heard.loader.load("faulty"));
  EXPECT_NE(::getenv("MMKIT_TEST_PLUGIN_EVIL"), nullptr);
  ::unsetenv("MMKIT_TEST_PLUGIN_EVIL");
}

// ---------------------------------------------------------------- what a plug-in asks of the program

class PluginServices : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    directory_.add_runs();
    directory_.add_faulty();
    registry_.set_loader(SharedObjectLoader(directory_.path()));
  }
  void ask(const char* fault) {
    const EnvironmentVariable says("MMKIT_TEST_PLUGIN_FAULT", fault);
    EXPECT_EQ(make_pool(registry_, "faulty"), nullptr);
  }

  PluginDirectory directory_;
  DriverRegistry registry_;
};

TEST_F(PluginServices, ReachTheProgramsHandlers) {
  const testing::CapturedLeaks leaks;
  ask("leak");
  EXPECT_THAT(leaks.reports(), ::testing::ElementsAre(testing::CapturedReport{
                                   "faulty", "plug-in", "left behind", /*of "busy"=*/4}));
  const std::unique_ptr<Zpool> pool = make_pool(registry_, "runs");
  EXPECT_DEATH(ask("misuse"), "^mmkit: faulty pool 'plug-in': misuse 0x7\n$");
  EXPECT_DEATH(ask("check"), "mmkit: faulty.cpp:[0-9]+: check failed: ");
  EXPECT_DEATH(ask("value"), "mmkit: result busy: value of a failed result");
}

TEST_F(PluginServices, NameTheMisuseOfAPool) {
  const testing::CapturedLeaks leaks;
  {
    const std::unique_ptr<Zpool> pool = make_pool(registry_, "runs");
    ASSERT_TRUE(pool->allocate(10));
  }
  EXPECT_THAT(leaks.reports(), ::testing::ElementsAre(testing::CapturedReport{
                                   "runs", "own", "objects left at destruction", 1}));
  const auto end_while_mapped = [this] {
    std::unique_ptr<Zpool> pool = make_pool(registry_, "runs");
    const Mapping mapping = pool->map(pool->allocate(10).value());
    pool.reset();
  };
  EXPECT_DEATH(end_while_mapped(), "mmkit: runs pool 'own': pool destroyed with live mapping 0x");
}

TEST_F(PluginServices, KeepItsPoolsWholeAcrossAFork) {
  const std::unique_ptr<Zpool> pool = make_pool(registry_, "runs");
  const Handle handle = pool->store(testing::make_pattern(3000, 5)).value();
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) pool->free(pool->allocate(100).value());
  });
  for (std::size_t i = 0; i < testing::scaled(20, 3); ++i) {
    EXPECT_EQ(testing::run_in_child([&] {
                if (!pool->validate()) return 1;
                const Mapping mapping = pool->map(handle, MapMode::read_only);
                if (!testing::has_pattern(mapping.const_bytes().first(3000), 5)) return 2;
                pool->free(pool->allocate(100).value());
                return 0;
              }),
              0);
  }
  stop = true;
  busy.join();
  pool->free(handle);
}

}  // namespace
}  // namespace mmkit
