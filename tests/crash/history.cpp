// SPDX-License-Identifier: GPL-2.0-only
#include "history.hpp"

#include <fmt/core.h>

#include <charconv>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace liveblk::crash {
namespace {

using Kind = Event::Kind;

char issue_letter(Kind kind)
{
    switch (kind) {
    case Kind::write:
        return 'W';
    case Kind::fua_write:
        return 'F';
    case Kind::write_zeroes:
        return 'Z';
    default:
        return 'D';
    }
}

std::string line_of(const Event &event)
{
    switch (event.kind) {
    case Kind::complete:
        return fmt::format("c {}", event.id);
    case Kind::flush_begin:
        return fmt::format("b {}", event.id);
    case Kind::mark_flush:
        return fmt::format("m {} flush {}", event.mark, event.id);
    case Kind::mark_op:
        return fmt::format("m {} op {}", event.mark, event.id);
    case Kind::mark_snapshot:
        return fmt::format("m {} snapshot {}", event.mark, event.name);
    case Kind::mark_file:
        return fmt::format("m {} file {} {}", event.mark, event.id, event.length);
    default:
        return fmt::format("{} {} {} {}", issue_letter(event.kind), event.id, event.offset, event.length);
    }
}

Event parse_mark_line(std::istringstream &in)
{
    Event event{Kind::mark_flush};
    std::string what;
    in >> event.mark >> what;
    if (what == "flush") {
        in >> event.id;
    } else if (what == "op") {
        event.kind = Kind::mark_op;
        in >> event.id;
    } else if (what == "snapshot") {
        event.kind = Kind::mark_snapshot;
        in >> event.name;
    } else if (what == "file") {
        event.kind = Kind::mark_file;
        in >> event.id >> event.length;
    } else {
        throw std::runtime_error("unknown mark");
    }
    return event;
}

Event parse_line(const std::string &line)
{
    std::istringstream in(line);
    std::string letter;
    in >> letter;
    Event event{Kind::write};
    if (letter == "m") {
        event = parse_mark_line(in);
    } else if (letter == "c" || letter == "b") {
        event.kind = letter == "c" ? Kind::complete : Kind::flush_begin;
        in >> event.id;
    } else if (letter == "W" || letter == "F" || letter == "Z" || letter == "D") {
        event.kind = letter == "W"   ? Kind::write
                     : letter == "F" ? Kind::fua_write
                     : letter == "Z" ? Kind::write_zeroes
                                     : Kind::discard;
        in >> event.id >> event.offset >> event.length;
    } else {
        throw std::runtime_error("unknown event");
    }
    if (in.fail())
        throw std::runtime_error("incomplete event");
    return event;
}

} // namespace

void History::save(const std::string &path) const
{
    std::ofstream out(path, std::ios::trunc);
    out << fmt::format("history {} {} {}\n", seed, size, cluster_size);
    for (const Event &event : events)
        out << line_of(event) << '\n';
    out.flush();
    if (!out)
        throw std::runtime_error("write history " + path);
}

History History::load(const std::string &path)
{
    std::ifstream in(path);
    if (!in)
        throw std::runtime_error("open history " + path);
    History history;
    std::string word, line;
    in >> word >> history.seed >> history.size >> history.cluster_size;
    if (!in || word != "history" || !history.cluster_size)
        throw std::runtime_error(fmt::format("history {}: the first line is not a history header", path));
    std::getline(in, line);
    for (std::size_t number = 2; std::getline(in, line); number++) {
        try {
            history.events.push_back(parse_line(line));
        } catch (const std::runtime_error &error) {
            throw std::runtime_error(fmt::format("history {} line {}: {}: '{}'", path, number, error.what(), line));
        }
    }
    return history;
}

std::string mark_text(std::uint64_t mark)
{
    return fmt::format("m{}", mark);
}

std::uint64_t parse_mark(const std::string &text)
{
    std::uint64_t mark = 0;
    if (text.size() < 2 || text[0] != 'm')
        return 0;
    const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), mark);
    return error == std::errc() && end == text.data() + text.size() ? mark : 0;
}

} // namespace liveblk::crash
