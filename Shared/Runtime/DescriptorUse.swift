import Glibc
package import Logging
import ServiceLifecycle

/// How many file descriptors a process has open, and how many it may have. Every connection is one; a process without
/// any left accepts nobody.
package struct DescriptorUse: Sendable, Hashable, CustomStringConvertible {
    package var used: Int
    package var limit: Int

    package init(used: Int, limit: Int) {
        self.used = used
        self.limit = limit
    }

    /// This process, now; all zero where /proc cannot be read.
    package static func current() -> DescriptorUse {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0,
            let folder = opendir("/proc/self/fd")
        else { return DescriptorUse(used: 0, limit: 0) }
        defer { closedir(folder) }
        // Not counted: ".", ".." and the descriptor that looks.
        var count = -3
        while readdir(folder) != nil { count += 1 }
        return DescriptorUse(used: max(0, count), limit: Int(clamping: limits.rlim_cur))
    }

    /// From 70 % on somebody should look.
    package var isHigh: Bool { limit > 0 && used * 10 >= limit * 7 }

    /// Below 60 % it was a passing matter, and the next time is worth a warning again.
    var isOver: Bool { used * 10 < limit * 6 }

    package var description: String {
        "\(used) of its \(limit) file descriptors (\(limit > 0 ? used * 100 / limit : 0) %)"
    }
}

/// Warns, once each time, when this process comes near its limit of file descriptors.
package struct DescriptorWatch: Service {
    private static let interval = Duration.seconds(5)

    private let logger: Logger
    private let measure: @Sendable () -> DescriptorUse

    package init(logger: Logger, measure: @escaping @Sendable () -> DescriptorUse = { .current() }) {
        self.logger = logger
        self.measure = measure
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            var hasWarned = false
            while !Task.isCancelled {
                look(&hasWarned)
                try? await Task.sleep(for: Self.interval)
            }
        }
    }

    /// One look.
    /// - Parameter hasWarned: whether the present height has been told already.
    package func look(_ hasWarned: inout Bool) {
        let use = measure()
        if use.isHigh, !hasWarned {
            hasWarned = true
            logger.warning(
                "this process uses \(use); beyond them it accepts nobody", metadata: ["remedy": "LimitNOFILE="])
        } else if use.isOver {
            hasWarned = false
        }
    }
}
