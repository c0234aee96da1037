// SPDX-License-Identifier: GPL-2.0-only
#include "qcow2/backing.hpp"

#include "base/error.hpp"
#include "base/json.hpp"

#include <map>
#include <set>
#include <string_view>

namespace liveblk::qcow2 {
namespace {

using Options = std::map<std::string, std::string>;

// QEMU's drivers of what is local.
bool is_local(std::string_view driver)
{
    return driver == "file" || driver == "host_device";
}

// What is before a colon, if no slash comes first.
std::string protocol_of(const std::string &name)
{
    const std::size_t at = name.find_first_of(":/");
    return at == std::string::npos || name[at] == '/' ? "" : name.substr(0, at);
}

// QEMU takes strings in single quotes, too.
std::string plain_json(std::string_view text)
{
    std::string out;
    char quote = '\0';
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '\\' && i + 1 < text.size()) {
            i++;
            out += text[i] == '\'' ? "'" : std::string{c, text[i]};
        } else if (c == quote || (!quote && (c == '"' || c == '\''))) {
            quote = quote ? '\0' : c;
            out += '"';
        } else {
            out += c == '"' ? "\\\"" : std::string{c};
        }
    }
    return out;
}

class Finder {
public:
    Finder(const std::string &image, const std::string &name, const std::string &format)
        : image_(image), name_(name), format_(format)
    {
    }

    Backing find() const
    {
        if (name_.find('\0') != std::string::npos)
            fail("find the backing file of '{}': its name has a zero byte", image_);
        const std::string protocol = protocol_of(name_);
        Backing found;
        if (protocol.empty())
            found = {beside_image(), format_};
        else if (protocol == "json")
            found = from_json(name_.substr(protocol.size() + 1));
        else if (is_local(protocol))
            found = {absolute(name_.substr(protocol.size() + 1)), format_};
        else
            refuse_protocol(protocol);
        require_format(found.format);
        return found;
    }

private:
    template <typename... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> text, Args &&...args) const
    {
        not_supported("find the backing file '{}' of '{}': {}", printable(name_), image_,
                      printable(fmt::format(text, std::forward<Args>(args)...)));
    }

    [[noreturn]] void refuse_protocol(const std::string &protocol) const
    {
        refuse("'{}' is neither a local file nor a block device; attach what is local, or copy it here and name the "
               "copy with 'qemu-img rebase -u'",
               protocol);
    }

    std::string beside_image() const
    {
        if (name_.starts_with('/'))
            return name_;
        const std::size_t slash = image_.rfind('/');
        return slash == std::string::npos ? name_ : image_.substr(0, slash + 1) + name_;
    }

    // QEMU takes such a path as relative to the directory that it is started in, which is another one each time.
    std::string absolute(const std::string &path) const
    {
        if (!path.starts_with('/'))
            refuse("its path is relative to the directory that QEMU is started in; name an absolute one, with "
                   "'qemu-img rebase -u'");
        return path;
    }

    std::string option(const Options &options, const std::string &name) const
    {
        const auto it = options.find(name);
        return it == options.end() ? "" : it->second;
    }

    Options options_of(const std::string &json) const
    {
        try {
            return json_options(plain_json(json));
        } catch (const Error &e) {
            refuse("{}", e.what());
        }
    }

    Backing from_json(const std::string &json) const
    {
        const Options options = options_of(json);
        const std::string driver = option(options, "driver");
        if (is_local(driver))
            return {take(options, {"driver", "filename"}, "filename"), same_format("raw")};
        if (!driver.empty() && driver != "qcow2" && driver != "raw")
            refuse_protocol(driver);
        const std::string below = option(options, "file.driver");
        if (!below.empty() && !is_local(below))
            refuse_protocol(below);
        return {take(options, {"driver", "file.driver", "file.filename"}, "file.filename"), same_format(driver)};
    }

    // Others may say that it is a part of the file, or that it has another backing file than its own.
    std::string take(const Options &options, const std::set<std::string> &known, const std::string &name) const
    {
        for (const auto &[member, value] : options)
            if (!known.contains(member))
                refuse("its member \"{}\" is not supported", member);
        if (!options.contains(name))
            refuse("it has no member \"{}\"", name);
        return absolute(option(options, name));
    }

    std::string same_format(const std::string &format) const
    {
        if (!format_.empty() && !format.empty() && format != format_)
            refuse("it says {}, but the header has the format \"{}\"", format, format_);
        return format.empty() ? format_ : format;
    }

    void require_format(const std::string &format) const
    {
        if (format.empty())
            refuse("the header does not say which format it has, and what looks like a QCOW2 image may be written by "
                   "a guest; 'qemu-img rebase -u -b NAME -F FORMAT IMAGE' records the name and the format");
        if (format != "qcow2" && format != "raw")
            refuse("its format \"{}\" is neither qcow2 nor raw", format);
    }

    const std::string &image_;
    const std::string &name_;
    const std::string &format_;
};

} // namespace

std::optional<Backing> backing_of(const std::string &image, const Header &header)
{
    if (header.backing_file.empty())
        return std::nullopt;
    const std::string format = header.text_extension(extension_backing_format).value_or("");
    return Finder(image, header.backing_file, format).find();
}

std::uint64_t disk_size(const ImageFile &file, const std::string &format)
{
    return format == "raw" ? (file.size() + sector_size - 1) / sector_size * sector_size : read_header(file).size;
}

std::uint64_t backing_size(const std::string &image, const Header &header)
{
    const auto backing = backing_of(image, header);
    // The backing file of a live disk may be in use by others, who do not change it.
    return backing ? disk_size(ImageFile(backing->path, Access::read_only), backing->format) : 0;
}

} // namespace liveblk::qcow2
