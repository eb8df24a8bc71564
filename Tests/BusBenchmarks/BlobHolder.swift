import Bus
import Failure
import Foundation
import Runtime
import Tensor
import Wire

/// The process that holds the blobs: one way to it, named by the parent.
enum BlobHolder {
    /// Signs the tickets of a run; nothing outside this benchmark knows or takes it.
    static let secret = [UInt8]("a benchmark's own secret".utf8)

    /// The blob of a size, the same in both processes.
    static func blob(_ bytes: Int) -> Tensor {
        var tensor = Tensor(uninitialized: [bytes], dtype: .uint8)
        tensor.withUnsafeMutableBytes { target in
            var state = UInt64(bytes) &* 0x9E37_79B9_7F4A_7C15 | 1
            for offset in stride(from: 0, to: bytes - 7, by: 8) {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                target.storeBytes(of: state, toByteOffset: offset, as: UInt64.self)
            }
        }
        return tensor
    }

    /// - Parameter order: `WAY DIRECTORY [CONSUMER]`; prints the location and serves until its input ends.
    static func run(_ order: String, sizes: [Int]) async throws {
        let words = order.split(separator: " ").map(String.init)
        guard words.count >= 2 else { throw Failure("bench_order", order) }
        let directory = try RunDirectory(path: words[1])
        let loop = try BusLoop(name: "bench-holder")
        let memory = MemoryStore(budgetBytes: 4 << 30)
        for size in sizes { memory.insert(blob(size)) }
        var security: BusSecurity?
        if words[0] == "curve", words.count > 2, let consumer = PublicKey(text: words[2]) {
            let pair = try KeyPair.generate()
            let made = try BusSecurity(loop: loop, identity: pair)
            let key = TicketKey.master(secret: secret).derived(for: pair.publicKey)
            made.adopt(KeyRing(keys: [consumer], ticketKey: key, unixMilliseconds: 1_000_000))
            security = made
        }
        let server = DataServer(loop: loop, session: .random(), source: memory, security: security)
        let socket = "data-\(words[0]).sock"
        let endpoint: Endpoint =
            words[0] == "tcp" || words[0] == "curve"
            ? .tcp(host: "127.0.0.1", port: 0) : .ipc(path: directory.socketPath(socket))
        let bound = try await server.bind(endpoint, insecure: false)
        if words[0] == "memory" {
            let largest = sizes.max() ?? 0
            try await server.lendMemory(
                through: directory.socketPath("memory-bench.sock"), budgetBytes: largest * 2 + (1 << 20))
        }
        var line = socket
        if case .tcp(_, let port) = bound { line = "\(port)" }
        if let security { line += " \(security.identity.publicKey)" }
        FileHandle.standardOutput.write(Data((line + "\n").utf8))
        while readLine() != nil {}
        exit(0)
    }
}
