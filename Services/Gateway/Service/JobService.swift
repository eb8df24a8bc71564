package import Failure
package import Tensor
package import Wire

/// What the gateway needs of the rest of the house: a broker that takes, shows and cancels jobs and stores their files.
package protocol JobService: Sendable {
    /// Stores the job durably. Errors: `key_reused_with_other_body`, `broker_unreachable`, the broker's own.
    func submit(_ submit: Submit) async throws(Failure) -> Accepted
    /// The job as it is now; `job_not_found`.
    func status(job: String) async throws(Failure) -> JobStatus
    /// At most `limit` jobs older than the job `before` (empty: the newest), newest first.
    func list(before: String, limit: Int) async throws(Failure) -> StatusPage
    /// The job now and after every change, until it is terminal.
    func watch(job: String) async throws(Failure) -> AsyncThrowingStream<JobStatus, any Error>
    /// Small pictures of what the job's running task is about to become, made only while somebody reads them.
    func previews(job: String) async throws(Failure) -> AsyncThrowingStream<Preview, any Error>
    /// Cancels the job unless it is terminal, and says which terminal state won.
    func cancel(job: String) async throws(Failure) -> CancelOutcome
    func cluster() async throws(Failure) -> ClusterStatus
    /// Every broker behind this service, whether it answers or not.
    func cells() async -> [CellReport]
    /// Those of them whose jobs lists leave out at present, as people call them.
    func absentCells() async -> [String]
    /// As `drain` without a cell, in the one called `cell`; nil means all. Errors: `cell_unknown`.
    func drain(_ drain: Drain, cell: String?) async throws(Failure) -> Draining
    /// Empties workers, or lets the broker take no new jobs; `worker_not_found`.
    func drain(_ drain: Drain) async throws(Failure) -> Draining
    /// Jobs that failed or died, or one of them with its evidence; `job_not_found`, `job_not_dead`.
    func dead(_ query: DeadQuery) async throws(Failure) -> DeadPage
    /// Makes a new job of a dead one; as `dead`, and what `submit` is refused with.
    func retry(_ retry: DeadRetry) async throws(Failure) -> Accepted
    /// The bytes of a stored blob; `input_missing` when nobody holds it any more.
    func bytes(of ref: TensorRef) async throws(Failure) -> [UInt8]
    /// Stores a tensor durably, for a job to start from.
    func store(_ tensor: Tensor) async throws(Failure) -> TensorRef
    /// A reference to a blob that a client says it stored.
    func stored(_ digest: Digest, dtype: DType, shape: [Int]) async throws(Failure) -> TensorRef
}
