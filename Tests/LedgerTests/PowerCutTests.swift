import CLostFsync
import Foundation
import Ledger
import Testing
import Work

extension LedgerTests {
    @Test("what was committed is there after a power cut that loses everything that was not flushed")
    func commits() async throws {
        // A real path: flushed files are told apart by where the kernel says they are.
        let temporary = FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path
        let folder = "\(temporary)/zoetrope-power-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        for name in ["data", "shadow"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        try #require(lost_fsync_begin("\(folder)/data", "\(folder)/shadow") == 0)
        defer { lost_fsync_end("\(folder)/data") }
        let ledger = try Ledger(directory: "\(folder)/data", compactionThreshold: 5)
        var expected = Records()
        for number in 1...8 {
            let entries = history(job: "job-\(number)", fence: UInt64(number) * 10)
            try await ledger.commit(entries)
            for entry in entries { expected.apply(entry) }
            if ledger.needsCompaction { try await ledger.compact(expected) }
            let disk = "\(folder)/disk-\(number)"
            try #require(lost_fsync_restore("\(folder)/data", disk) == 0, "cannot restore: \(errno)")
            #expect(try Ledger(directory: disk).load() == expected, "after commit \(number)")
        }
    }
}
