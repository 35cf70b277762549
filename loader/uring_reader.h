// The DiskReader on io_uring.
#pragma once

#include <memory>

#include "loader/disk_reader.h"

namespace millrace {

// Null where the system refuses io_uring, as containers often do, unless it `must` be: then Error(unsupported).
std::unique_ptr<DiskReader> make_uring_reader(int most, DiskReader::Client& client, bool must);

}  // namespace millrace
