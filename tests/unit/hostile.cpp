// SPDX-License-Identifier: GPL-2.0-only
// The generator itself: a case that is not what its name says would prove nothing.
#include <catch2/catch.hpp>

#include "cases.hpp"
#include "expression.hpp"
#include "oracle/survey.hpp"

#include <cstdlib>
#include <filesystem>

using namespace hostile;
using namespace liveblk::oracle;

namespace {

Image make(const Case &c)
{
    Image image(c.geometry);
    c.make(image);
    return image;
}

int run(const std::string &command)
{
    return std::system((command + " >/dev/null 2>&1").c_str());
}

} // namespace

TEST_CASE("there are many cases, and each is named once")
{
    REQUIRE(make_catalogue(false).cases().size() >= 300);
    REQUIRE(make_catalogue(true).cases().size() == make_catalogue(false).cases().size());
    REQUIRE_THROWS(make_catalogue(false).find("no-such-case"));
}

TEST_CASE("a case is the same bytes each time")
{
    const Catalogue first = make_catalogue(false);
    const Catalogue second = make_catalogue(false);
    for (std::size_t n = 0; n < first.cases().size(); n += 7)
        REQUIRE(make(first.cases()[n]).bytes == make(second.cases()[n]).bytes);
}

TEST_CASE("every case but those about the table or its length differs from the valid image")
{
    const Catalogue catalogue = make_catalogue(false);
    for (const Case &c : catalogue.cases()) {
        bool about_table = !c.params.empty() || c.table_sectors != 0;
        if (about_table || c.name.starts_with("valid-") || c.name.starts_with("v3-cluster-bits-"))
            continue;
        INFO(c.name);
        REQUIRE(make(c).bytes != Image(c.geometry).bytes);
    }
}

TEST_CASE("expressions of reasons can be read")
{
    const Catalogue catalogue = make_catalogue(false);
    for (const Case &c : catalogue.cases())
        REQUIRE_NOTHROW(Expression(c.reason, REG_ICASE));
}

TEST_CASE("the reader finds nothing wrong with valid images, and sees what the writer meant")
{
    const Catalogue catalogue = make_catalogue(false);
    for (const Case &c : catalogue.cases()) {
        if (!c.name.starts_with("valid-"))
            continue;
        INFO(c.name);
        Image image = make(c);
        Survey found = survey(image.bytes);
        REQUIRE(found.readable);
        REQUIRE(found.corruptions == 0);
        for (std::uint64_t k = 0; k < image.size() / found.unit; k++) {
            Bytes want(image.view.bytes.begin() + static_cast<std::ptrdiff_t>(k * found.unit),
                       image.view.bytes.begin() + static_cast<std::ptrdiff_t>((k + 1) * found.unit));
            std::uint64_t host = found.active[k];
            REQUIRE(host != maps_to_nothing);
            Bytes is(found.unit);
            if (host != maps_to_zero)
                is.assign(image.bytes.begin() + static_cast<std::ptrdiff_t>(host),
                          image.bytes.begin() + static_cast<std::ptrdiff_t>(host + found.unit));
            REQUIRE(is == want);
        }
    }
}

TEST_CASE("the reader finds what is wrong")
{
    const Catalogue catalogue = make_catalogue(false);
    for (const char *name : {"l1-entry-end-of-file", "l2-entry-off-by-a-sector", "l2-entry-reftable",
                             "refcount-0-for-l1", "l2-entry-copied-but-shared", "l2-entries-alike"}) {
        INFO(name);
        REQUIRE(survey(make(catalogue.find(name)).bytes).corruptions > 0);
    }
}

TEST_CASE("QEMU reads from valid cases what the module must read")
{
    if (run("qemu-img --version") != 0) {
        FAIL("qemu-img is missing: run scripts/install-deps");
    }
    const Catalogue catalogue = make_catalogue(false);
    char pattern[] = "/tmp/unit-hostile.XXXXXX";
    REQUIRE(mkdtemp(pattern) != nullptr);
    const std::string directory = pattern;
    const std::string file = directory + "/image.qcow2";
    const std::string raw = directory + "/image.raw";
    for (const Case &c : catalogue.cases()) {
        if (c.expect != Expect::ok || !c.params.empty())
            continue;
        Image image = make(c);
        if (image.cluster() > 65536)
            continue;
        write_sparse(file, image.bytes);
        write_sparse(raw, image.view.bytes);
        INFO(c.name);
        CHECK(run("qemu-img compare -f raw -F qcow2 " + raw + " " + file) == 0);
    }
    std::filesystem::remove_all(directory);
}
