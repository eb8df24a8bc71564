import Bus
import CZeroMQ
import Failure
import FoundationEssentials
import Runtime
import Tensor
import Wire

/// A data server with a store on disk, and a peer that follows a script: opens, chunks, credits, stops and rubbish in
/// any order.
///
/// After the script every transfer is stopped. Then none may be left over, and whatever was stored must be the bytes
/// of its digest.
final class UploadSubject: FuzzSubject {
    /// The largest window that a GET may have: one transfer alone is always served.
    private static let budgetBytes = 64 << 20

    private let folder: String
    private let loop: BusLoop
    private let server: DataServer
    private let store: BlobStore
    private let peer: RawPeer
    private let counter = RunCounter()

    init() async throws {
        folder = scratchFolder("upload")
        let directory = try RunDirectory(path: folder)
        loop = try BusLoop(name: "fuzz")
        store = try BlobStore(directory: folder + "/store")
        server = DataServer(loop: loop, session: .random(), source: store, sink: store, budgetBytes: Self.budgetBytes)
        let endpoint = try await server.bind(.ipc(path: directory.socketPath("d.sock")), insecure: false)
        peer = try RawPeer(ZMQ_DEALER, connect: endpoint.description)
    }

    func finish() async {
        await loop.shutdown()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func run(_ input: [UInt8]) async throws {
        let base = counter.next() * 64
        try await store.insert(Tensor(bytes: Contents.all[3]))
        var reader = InputReader(input)
        for _ in 0..<48 where !reader.isAtEnd {
            if let message = Script.request(&reader, base: base) { peer.send(message) }
            while peer.receive(milliseconds: 0) != nil {}
        }
        try await settle(base + 40)
        for sequence in base..<(base + 8) {
            peer.send([try Script.frame(.stop(Digest.of([])), sequence: base + 50, inReplyTo: sequence)])
        }
        try await settle(base + 41)
        let statistics = await server.statistics
        try Finding.require(statistics.activeTransfers == 0, "\(statistics.activeTransfers) transfers are left over")
        try Finding.require(statistics.peakReservedBytes <= Self.budgetBytes, "the budget was exceeded: \(statistics)")
        try await checkStore()
    }

    /// Waits until the server has taken everything sent before: it answers in the order in which messages come.
    private func settle(_ sequence: UInt64) async throws {
        let unknown = Digest.of([1, 2, 3])
        let get = Message.get(Get(digest: unknown, offset: 0, length: 1, window: 1))
        peer.send([try Script.frame(get, sequence: sequence)])
        for _ in 0..<20_000 {
            guard let frames = peer.receive(milliseconds: 1) else { continue }
            if let envelope = try? EnvelopeCodec.decode(frames[0]), envelope.inReplyTo == sequence { return }
        }
        throw Finding("the server does not answer any more")
    }

    private func checkStore() async throws {
        for digest in store.digests {
            // A commit under way may be refused afterwards, so a blob may be gone again.
            if let blob = await store.blob(digest) {
                let found = blob.withUnsafeBytes { Digest.of($0) }
                try Finding.require(found == digest, "bytes of \(found) lie under the name \(digest)")
            }
            store.remove(digest)
        }
    }
}

/// Numbers the runs, so that what is late from one run means nothing to the next.
final class RunCounter: @unchecked Sendable {
    // Runs come one after the other: nobody else is here meanwhile.
    private var value: UInt64 = 0

    func next() -> UInt64 {
        value += 1
        return value
    }
}
