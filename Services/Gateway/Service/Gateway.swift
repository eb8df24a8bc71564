package import Checkpoint
package import Hummingbird
package import Logging
package import Request
package import Runtime

/// The HTTP face of the house: routes over a `JobService`, no state of its own but counters and a file cache.
package struct Gateway: Sendable {
    private let service: any JobService
    private let traits: ModelTraits
    private let administration: AdminGate
    private let keepAlive: Duration
    private let shelf: AdapterShelf

    /// - Parameters:
    ///   - traits: the served model, which requests are checked against.
    ///   - administration: who may drain workers and handle dead jobs.
    ///   - keepAlive: the interval of comments in event streams.
    ///   - adapters: the folder of adapters that requests may name; nil where they may name none.
    package init(
        service: any JobService, traits: ModelTraits, administration: AdminGate = .open,
        keepAlive: Duration = .seconds(15), adapters: AdapterLibrary? = nil
    ) {
        shelf = AdapterShelf(adapters)
        self.service = service
        self.traits = traits
        self.administration = administration
        self.keepAlive = keepAlive
    }

    /// Every route, with errors in OpenAI's form for the rest.
    package func router() -> Router<BasicRequestContext> {
        let metrics = GatewayMetrics()
        let router = Router(context: BasicRequestContext.self, options: .autoGenerateHeadEndpoints)
        router.middlewares.add(CountingMiddleware(metrics: metrics))
        router.middlewares.add(ErrorMiddleware())
        router.middlewares.add(OriginMiddleware())
        VideoRoutes(service: service, traits: traits, metrics: metrics, shelf: shelf).add(to: router)
        LoraRoutes(shelf: shelf).add(to: router)
        ContentRoute(service: service).add(to: router)
        TensorRoutes(service: service).add(to: router)
        MediaRoute(service: service).add(to: router)
        EventStream(service: service, keepAlive: keepAlive).add(to: router)
        PreviewStream(service: service, traits: traits, keepAlive: keepAlive).add(to: router)
        ContinueRoute(service: service, traits: traits, metrics: metrics).add(to: router)
        ReencodeRoute(service: service, traits: traits, metrics: metrics).add(to: router)
        let administration = AdminMiddleware(gate: administration, metrics: metrics)
        WorkerRoutes(service: service).add(to: router, administration)
        DeadRoutes(service: service, metrics: metrics).add(to: router, administration)
        HealthRoutes(service: service, traits: traits, metrics: metrics).add(to: router)
        router.get("/") { _, _ in Page.response(traits) }
        return router
    }

    /// The server, ready to run as a service; logs `listening` with the real address.
    package func application(
        listen: ListenAddress, logger: Logger
    ) -> Application<RouterResponder<BasicRequestContext>> {
        Application(
            router: router(),
            configuration: ApplicationConfiguration(
                address: .hostname(listen.host, port: listen.port), serverName: "zoetrope-gateway"),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? listen.port
                var actual = listen
                actual.port = port
                logger.notice(
                    "ready", metadata: ["address": "http://\(actual)", "model": "\(traits.name)"])
            },
            logger: logger)
    }
}
