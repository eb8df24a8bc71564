import Bus
import CZeroMQ
import Failure
import FoundationEssentials
import Runtime
import Tensor
import Wire

/// A data client that fetches from a holder which follows a script: chunks that are late, doubled, damaged, misplaced
/// or of another transfer, and answers to no question.
///
/// The fetch must end, and a tensor must be exactly the bytes of its digest.
final class DownloadSubject: FuzzSubject {
    private let folder: String
    private let loop: BusLoop
    private let client: DataClient
    private let holder: RawPeer
    private let location: Location

    init() throws {
        folder = scratchFolder("download")
        let directory = try RunDirectory(path: folder)
        loop = try BusLoop(name: "fuzz")
        client = DataClient(loop: loop, session: .random(), runDirectory: directory, windowBytes: 2000)
        let endpoint = Endpoint.ipc(path: directory.socketPath("h.sock"))
        guard let location = endpoint.location(in: directory) else { throw Finding("no location of \(endpoint)") }
        self.location = location
        holder = try RawPeer(ZMQ_ROUTER, bind: endpoint.description)
    }

    func finish() async {
        await loop.shutdown()
        try? FileManager.default.removeItem(atPath: folder)
    }

    func run(_ input: [UInt8]) async throws {
        var reader = InputReader(input)
        let content = Contents.all[Int(reader.byte() % 4)]
        let script = reader.rest()
        let reference = TensorRef(
            digest: Digest.of(content), dtype: .uint8, shape: [content.count], locations: [location])
        let fetching = Task { [client] in
            await Result { () async throws(Failure) -> Tensor in
                try await client.fetch(reference, timeout: .seconds(2))
            }
        }
        let ended = Task { [self] in try await serve(script, content) }
        let result = await fetching.value
        ended.cancel()
        try await ended.value
        switch result {
        case .success(let tensor):
            let isSame = tensor.withUnsafeBytes { $0.elementsEqual(content) }
            try Finding.require(isSame, "a fetch ended well with other bytes")
        case .failure(let failure):
            try Finding.require(failure.code != "cancelled", "a fetch that nobody cancelled was: \(failure)")
        }
    }

    /// Answers GETs by the script until cancelled; the fourth is refused, so that the fetch ends.
    private func serve(_ script: [UInt8], _ content: [UInt8]) async throws {
        var asked = 0
        while !Task.isCancelled {
            guard let frames = holder.receive(milliseconds: 1), frames.count == 2,
                let envelope = try? EnvelopeCodec.decode(frames[1]), case .get(let get) = envelope.message
            else {
                await Task.yield()
                continue
            }
            asked += 1
            var reader = InputReader(script)
            for _ in 0..<32 where !reader.isAtEnd && asked < 4 {
                if let answer = Script.answer(&reader, content: content, to: envelope.sequence) {
                    holder.send([frames[0]] + answer)
                }
            }
            holder.send([frames[0], try Script.frame(.notHere(get.digest), sequence: 2, inReplyTo: envelope.sequence)])
        }
    }
}

extension Result {
    /// `Result(catching:)` for typed and asynchronous bodies.
    fileprivate init(_ body: () async throws(Failure) -> Success) async {
        do throws(Failure) {
            self = .success(try await body())
        } catch {
            self = .failure(error)
        }
    }
}
