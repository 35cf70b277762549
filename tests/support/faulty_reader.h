// A DiskReader whose reads fail when a test wants them to.
#pragma once

#include <atomic>
#include <memory>

#include "loader/disk_reader.h"

namespace millrace::test {

class FaultyReader final : public DiskReader, private DiskReader::Client {
 public:
  struct Faults {
    std::atomic<int> error = 0;  // what reads end with, where it is not 0
    std::atomic<int> reads = 0;  // how many were begun
    std::atomic<int> fine = -1;  // that many more reads succeed before `error` counts; -1: none
  };

  FaultyReader(DiskIo io, int most, DiskReader::Client& client, Faults& faults)
      : client_(client), faults_(faults), reader_(make_disk_reader(io, most, *this)) {}

  void start(const DiskRead& read) override {
    ++faults_.reads;
    reader_->start(read);
  }
  const char* name() const noexcept override { return "faulty"; }

 private:
  void read_done(const DiskRead& read, int error) noexcept override {
    if (faults_.error != 0 && (faults_.fine < 0 || faults_.fine-- == 0)) error = faults_.error;
    client_.read_done(read, error);
  }

  DiskReader::Client& client_;
  Faults& faults_;
  std::unique_ptr<DiskReader> reader_;
};

}  // namespace millrace::test
