import Glibc
package import Work

/// The broker's clocks: one that runs on in suspend for leases, the wall clock for people.
package enum BootClock {
    package static func now() -> Instant {
        Instant(
            milliseconds: milliseconds(of: CLOCK_BOOTTIME), unixMilliseconds: milliseconds(of: CLOCK_REALTIME))
    }

    private static func milliseconds(of clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000
    }
}
