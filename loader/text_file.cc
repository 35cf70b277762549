#include "loader/text_file.h"

#include <fstream>
#include <system_error>

#include "runtime/error.h"

namespace millrace {

std::string read_text_file(const std::filesystem::path& path, std::int64_t max_bytes) {
  std::error_code failure;
  const std::filesystem::file_status status = std::filesystem::status(path, failure);
  require(status.type() != std::filesystem::file_type::not_found, Errc::not_found, "{}: there is no such file",
          path.string());
  require(!failure, Errc::io, "{}: {}", path.string(), failure.message());
  require(status.type() == std::filesystem::file_type::regular, Errc::bad_file, "{}: not a regular file",
          path.string());
  const std::uintmax_t size = std::filesystem::file_size(path, failure);
  require(!failure, Errc::io, "{}: {}", path.string(), failure.message());
  require(size <= static_cast<std::uintmax_t>(max_bytes), Errc::bad_file, "{}: {} bytes, at most {} expected",
          path.string(), size, max_bytes);

  std::string text(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), Errc::io, "{}: cannot be opened", path.string());
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  require(file.gcount() == static_cast<std::streamsize>(text.size()), Errc::io, "{}: read {} of {} bytes",
          path.string(), file.gcount(), size);
  return text;
}

}  // namespace millrace
