// How long a thread may keep a processor when others want it.
#pragma once

namespace millrace {

// Asks for the shortest time slices for the calling thread and those it starts: who works little and often, a reader of
// files, is then put before those who compute as soon as it wakes. Takes nothing from others in the long run. Has no
// effect where the system does not know it (Linux before 6.12) or does not allow it.
void take_short_slices() noexcept;

}  // namespace millrace
