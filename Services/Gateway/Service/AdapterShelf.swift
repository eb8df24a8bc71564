import Checkpoint
import Dispatch
import Failure
import Hummingbird
import Request

/// The adapters that requests may name, found and checked before there is a job.
///
/// The first use of a file hashes all of it: that is done one file at a time on a queue of its own, away from the
/// threads that answer others.
struct AdapterShelf: Sendable {
    private let library: AdapterLibrary?
    private let queue = DispatchQueue(label: "adapters")

    init(_ library: AdapterLibrary?) { self.library = library }

    /// `request` with the digest of every adapter, and what a user should know of them in its notes.
    ///
    /// Fails with `adapters_unavailable` where there is no folder, and with the codes of `AdapterLibrary`, all 400.
    func resolved(_ request: GenerationRequest) async throws(HTTPFailure) -> GenerationRequest {
        guard let uses = request.loras else { return request }
        let library = try folder()
        return try await onQueue { () throws(Failure) in
            var request = request
            var found: [AdapterUse] = []
            for use in uses {
                let entry = try library.adapter(use.name).entry
                found.append(AdapterUse(name: use.name, weight: use.weight, digest: entry.digest))
                request.notes += entry.warnings.map { "lora \(use.name): \($0)" }
            }
            request.loras = found
            return request
        }
    }

    /// Every adapter there is, and the files that are none.
    func entries() async throws(HTTPFailure) -> (
        usable: [AdapterLibrary.Entry], failures: [(name: String, failure: Failure)]
    ) {
        let library = try folder()
        return try await onQueue { () throws(Failure) in library.entries() }
    }

    private func folder() throws(HTTPFailure) -> AdapterLibrary {
        guard let library else {
            throw HTTPFailure(
                .badRequest,
                Failure(
                    "adapters_unavailable", "This gateway has no folder of adapters.", field: "loras",
                    remedy: "Start gateway and denoisers with --adapters, or leave loras out."))
        }
        return library
    }

    private func onQueue<Value: Sendable>(
        _ work: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(HTTPFailure) -> Value {
        let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
            queue.async {
                do throws(Failure) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
        return try HTTPFailure.badRequest { () throws(Failure) in try result.get() }
    }
}
