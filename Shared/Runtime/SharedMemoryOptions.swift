import ArgumentParser

/// How much memory a process shares with those on its host that fetch from it.
package struct SharedMemorySize: Sendable, Hashable, ExpressibleByArgument, CustomStringConvertible {
    /// 0 = none: blobs go over the sockets.
    package let bytes: Int

    package static let off = SharedMemorySize(bytes: 0)
    package static let standard = SharedMemorySize(bytes: 256 << 20)

    private static let units = [("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30)]
    private static let largest = 1 << 40

    private init(bytes: Int) { self.bytes = bytes }

    /// Reads `off`, or a whole number of KB, MB or GB (1024, 1024², 1024³ bytes) up to 1024 GB; nil for anything else.
    package init?(argument: String) {
        let text = argument.uppercased()
        if text == "OFF" || text == "0" {
            self = .off
            return
        }
        guard let unit = SharedMemorySize.units.first(where: { text.hasSuffix($0.0) }),
            let count = Int(text.dropLast(2)), count > 0, count <= SharedMemorySize.largest / unit.1
        else { return nil }
        bytes = count * unit.1
    }

    package var description: String {
        guard bytes > 0 else { return "off" }
        let unit = SharedMemorySize.units.last { bytes.isMultiple(of: $0.1) } ?? ("KB", 1 << 10)
        return "\(bytes / unit.1)\(unit.0)"
    }

    package var defaultValueDescription: String { description }
}

/// The flag of processes that hold blobs.
package struct SharedMemoryOptions: ParsableArguments {
    @Option(help: "Memory to share with processes on this host that fetch from this one: 256MB, 1GB, or off.")
    package var sharedMemory = SharedMemorySize.standard

    package init() {}
}
