import Foundation
import Glibc
package import Work

/// The broker's clocks: one that runs on in suspend for leases, the wall clock for people.
package enum BootClock {
    package static func now() -> Instant {
        Instant(
            milliseconds: milliseconds(of: CLOCK_BOOTTIME), unixMilliseconds: milliseconds(of: CLOCK_REALTIME))
    }

    /// The machine's run, in which the first clock does not go back; where the kernel does not name it, a new one with
    /// every start of the broker.
    package static func run() -> String {
        let name = try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)
        guard let name = name?.trimmingCharacters(in: .whitespacesAndNewlines), !name.isEmpty else {
            return UUID().uuidString
        }
        return name
    }

    private static func milliseconds(of clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
    }
}
