import Bus
import CLostFsync
import FoundationEssentials
import Runtime
import Tensor
import Testing
import Wire

@Suite("Power cuts of the store")
struct PowerCutTests {
    @Test("a stored blob is whole after a power cut that loses everything that was not flushed")
    func blobs() async throws {
        try await Cell.run { cell in
            let folder = cell.runDirectory.path
            for name in ["data", "shadow"] {
                try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
            }
            try #require(lost_fsync_begin("\(folder)/data", "\(folder)/shadow") == 0)
            defer { lost_fsync_end("\(folder)/data") }
            let store = try BlobStore(directory: "\(folder)/data/store")
            var stored: [Digest] = []
            for number in 1...4 {
                stored.append(try await store.insert(pattern(3000 * number, seed: UInt8(number))))
                let disk = "\(folder)/disk-\(number)"
                try #require(lost_fsync_restore("\(folder)/data", disk) == 0)
                let restored = try BlobStore(directory: "\(disk)/store")
                #expect(Set(restored.digests) == Set(stored), "after blob \(number)")
                for digest in stored {
                    let blob = await restored.blob(digest)
                    #expect(blob.map { DataClient.digest(of: $0) } == digest, "blob \(digest) after blob \(number)")
                }
            }
        }
    }
}
