import Failure
import ServiceLifecycle

/// Fills a stream of server-sent events from several sources at once.
enum EventFeed {
    /// Runs the sources until the first of them ends or the gateway stops; then the stream ends.
    ///
    /// - Parameters:
    ///   - items: what is written to the reader, in order.
    ///   - comment: comes every `keepAlive`; such comments alone end nothing.
    ///   - failure: what tells the reader that a source failed.
    ///   - sources: each hands items over until it ends, fails or is cancelled.
    static func run<Item: Sendable>(
        into items: AsyncStream<Item>.Continuation, every keepAlive: Duration, comment: Item,
        failure: @escaping @Sendable (Failure) -> Item, sources: [@Sendable () async throws -> Void]
    ) async {
        await withTaskGroup(of: Void.self) { group in
            for source in sources {
                group.addTask {
                    do {
                        try await source()
                    } catch let problem as Failure {
                        items.yield(failure(problem))
                    } catch {
                        // Cancelled: the reader is gone.
                    }
                }
            }
            group.addTask {
                while (try? await Task.sleep(for: keepAlive)) != nil { items.yield(comment) }
            }
            group.addTask { try? await gracefulShutdown() }
            await group.next()
            items.finish()
            group.cancelAll()
        }
    }
}
