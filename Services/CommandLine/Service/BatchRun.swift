import Failure
import Foundation
import Media
import Request
import Tensor

/// Makes the videos of a batch in one private cluster, a few of them under way at a time, and a picture of them all.
///
/// A video whose file is there is not made again, so a batch that was interrupted goes on when it is started again. A clip
/// is captioned once, for the first video; the others take its caption as their prompt, also when they are made later,
/// because the file says it.
struct BatchRun: Sendable {
    let plan: ClusterPlan
    let supervisor: ClusterSupervisor
    let items: [BatchPlan.Item]
    let fields: [String: any Sendable]
    let media: MediaFiles
    /// Where the files go.
    let folder: String

    /// Enough that every stage has work while another one computes.
    private static let underWay = 4
    private static let contactSheet = "contact-sheet.png"

    func perform() async throws {
        let missing = items.filter { !FileManager.default.fileExists(atPath: path($0)) }
        Console.print("\(items.count) videos into \(folder)/, \(items.count - missing.count) of them there already")
        var failures = 0
        if !missing.isEmpty { failures = try await make(missing) }
        try writeContactSheet()
        guard failures == 0 else {
            throw Failure(
                "batch_incomplete", "\(failures) of \(items.count) videos could not be made.",
                remedy: "The reasons are above; the same command tries only those again.")
        }
    }

    private func path(_ item: BatchPlan.Item) -> String { "\(folder)/\(item.fileName)" }

    /// Makes the videos; how many failed.
    private func make(_ missing: [BatchPlan.Item]) async throws -> Int {
        let began = ContinuousClock.now
        try await supervisor.start(timeout: .seconds(120))
        let client = try GatewayClient(server: plan.server)
        var ids = try await media.upload(to: client)
        var failures = 0, done = 0, missing = missing
        if media.fields.contains("caption_of") {
            let captioned = try await captioned(missing[0], ids, client)
            Console.print("  the clip's caption is the prompt of all: \(Console.plain(captioned.caption))")
            if captioned.isNew { Console.print("  \(missing.removeFirst().fileName)") }
            ids["caption_of"] = nil
            for place in missing.indices { missing[place].prompt = captioned.caption }
        }
        let (all, rest, uploads) = (missing.count, missing, ids)
        try await withThrowingTaskGroup(of: (BatchPlan.Item, Failure?).self) { group in
            var waiting = rest[...]
            func begin() {
                guard let item = waiting.popFirst() else { return }
                group.addTask { (item, await failure(of: item, uploads, client)) }
            }
            for _ in 0..<Self.underWay { begin() }
            while let (item, failure) = try await group.next() {
                if let failure = await supervisor.failure { throw failure }
                done += 1
                if let failure {
                    failures += 1
                    Console.note("error: \(item.fileName): \(failure.code): \(failure.message)")
                } else {
                    Console.print("  \(item.fileName)  \(progress(done, of: all, since: began))")
                }
                begin()
            }
        }
        return failures
    }

    /// The clip's caption: of a video that is there, or of `first`, which is made with it.
    private func captioned(
        _ first: BatchPlan.Item, _ ids: [String: String], _ client: GatewayClient
    ) async throws -> (caption: String, isNew: Bool) {
        for item in items where FileManager.default.fileExists(atPath: path(item)) {
            return (try ReplaySource.manifest(of: path(item)).request.prompt, false)
        }
        if let failure = await failure(of: first, ids, client) { throw failure }
        return (try ReplaySource.manifest(of: path(first)).request.prompt, true)
    }

    private func progress(_ done: Int, of count: Int, since began: ContinuousClock.Instant) -> String {
        guard done < count else { return "\(done)/\(count), \(Console.seconds(ContinuousClock.now - began)) in all" }
        let left = (ContinuousClock.now - began) / done * (count - done)
        return "\(done)/\(count), about \(Console.seconds(left)) left"
    }

    /// Makes one video; why it could not be made, or nil.
    private func failure(of item: BatchPlan.Item, _ ids: [String: String], _ client: GatewayClient) async -> Failure? {
        do {
            var body: [String: any Sendable] = fields
            body.merge(ids) { $1 }
            if !item.prompt.isEmpty { body["prompt"] = item.prompt }
            body["seed"] = item.seed
            let job = try await client.create(
                JSONSerialization.data(withJSONObject: body), idempotencyKey: UUID().uuidString)
            var last = job
            for try await status in client.watch(job.id) { last = status }
            if let problem = last.error { return Failure(problem.code, problem.message) }
            try OutputFiles.write(try await client.content(job.id, variant: "video"), to: path(item))
            return nil
        } catch {
            return error as? Failure ?? Failure("job_lost", "\(error)")
        }
    }

    /// The middle frame of every video that is there, in their order.
    private func writeContactSheet() throws(Failure) {
        var pictures: [Tensor] = []
        for item in items where FileManager.default.fileExists(atPath: path(item)) {
            let frames = try VideoReader(path: path(item)).frames()
            // A copy: a slice would keep the whole clip.
            pictures.append(frames.rows(frames.shape[0] / 2..<frames.shape[0] / 2 + 1).copied())
        }
        guard let first = pictures.first else { return }
        let alike = pictures.filter { $0.shape == first.shape }
        let columns = max(1, Int(Double(alike.count).squareRoot().rounded(.up)))
        let sheet = try ContactSheet.render(
            frames: Tensor.concatenated(alike), columns: columns, maximumFrames: alike.count,
            scale: min(1, 320 / Double(first.shape[2])))
        try PNGWriter.write(sheet, path: "\(folder)/\(Self.contactSheet)")
        Console.print("  \(Self.contactSheet): the middle frame of each, in their order")
    }
}
