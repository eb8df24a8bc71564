import Glibc
import Logging
import Runtime
import Synchronization
import Testing

@Suite("File descriptors in use", .serialized)
struct DescriptorUseTests {
    @Test("every open descriptor counts, and a closed one does not")
    func counts() throws {
        let before = DescriptorUse.current()
        #expect(before.used > 2 && before.limit > before.used)
        let opened = (0..<40).map { _ in open("/dev/null", O_RDONLY) }
        // Other tests open and close descriptors of their own meanwhile.
        #expect(abs(DescriptorUse.current().used - before.used - 40) < 20)
        for descriptor in opened { close(descriptor) }
        #expect(abs(DescriptorUse.current().used - before.used) < 20)
    }

    @Test("70 % is high, and the text says how many of how many")
    func height() {
        #expect(!DescriptorUse(used: 69, limit: 100).isHigh && DescriptorUse(used: 70, limit: 100).isHigh)
        #expect(!DescriptorUse(used: 0, limit: 0).isHigh)
        #expect(DescriptorUse(used: 712, limit: 1000).description == "712 of its 1000 file descriptors (71 %)")
    }

    @Test("a height is told once, and again after it was over")
    func warns() {
        let lines = Lines()
        let watch = DescriptorWatch(logger: Logger(label: "test") { _ in Recorder(lines: lines) }) {
            DescriptorUse(used: lines.used, limit: 100)
        }
        var hasWarned = false
        for used in [10, 70, 80, 65, 75, 59, 71, 90] {
            lines.used = used
            watch.look(&hasWarned)
        }
        #expect(lines.count == 2)
    }
}

private final class Lines: Sendable {
    private let state = Mutex((count: 0, used: 0))

    /// Lines written so far.
    var count: Int { state.withLock { $0.count } }

    /// What is measured next.
    var used: Int {
        get { state.withLock { $0.used } }
        set { state.withLock { $0.used = newValue } }
    }

    func add() { state.withLock { $0.count += 1 } }
}

private struct Recorder: LogHandler {
    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.add() }
}
