import Failure
import GatewayService
import Hummingbird
import HummingbirdTesting
import NIOCore
import Runtime
import Testing
import Wire

@Suite("A wrong request gets the right status, a stable code and advice, and the next one works")
struct WrongRequestTests {
    private static let bodies: [(body: String, code: String, param: String?)] = [
        ("", "body_not_json", nil),
        ("[1]", "body_not_json", nil),
        ("{\"prompt\": \"a\"", "body_not_json", nil),
        ("{}", "prompt_missing", "prompt"),
        ("{\"prompt\": \"  \"}", "prompt_missing", "prompt"),
        ("{\"prompt\": 7}", "wrong_type", "prompt"),
        ("{\"prompt\": \"a\", \"promt\": \"b\"}", "unknown_field", "promt"),
        ("{\"prompt\": \"\(String(repeating: "x", count: 8193))\"}", "prompt_too_long", "prompt"),
        ("{\"prompt\": \"a\", \"width\": 100}", "size_not_multiple_of_16", "width"),
        ("{\"prompt\": \"a\", \"height\": 0}", "size_too_small", "height"),
        ("{\"prompt\": \"a\", \"width\": 99999}", "size_too_large", "width"),
        ("{\"prompt\": \"a\", \"size\": \"96\"}", "size_invalid", "size"),
        ("{\"prompt\": \"a\", \"size\": \"96x96\", \"width\": 96}", "fields_conflict", "size"),
        ("{\"prompt\": \"a\", \"num_frames\": 16}", "frame_count_unsupported", "num_frames"),
        ("{\"prompt\": \"a\", \"seconds\": \"0\"}", "seconds_out_of_range", "seconds"),
        ("{\"prompt\": \"a\", \"num_inference_steps\": 0}", "num_inference_steps_out_of_range", "num_inference_steps"),
        ("{\"prompt\": \"a\", \"num_inference_steps\": 7}", "num_inference_steps_unsafe", "num_inference_steps"),
        ("{\"prompt\": \"a\", \"guidance_scale\": -1}", "guidance_scale_out_of_range", "guidance_scale"),
        ("{\"prompt\": \"a\", \"fps\": 0}", "fps_out_of_range", "fps"),
        ("{\"prompt\": \"a\", \"scheduler\": \"euler\"}", "scheduler_unknown", "scheduler"),
        ("{\"prompt\": \"a\", \"dtype\": \"int4\"}", "dtype_unknown", "dtype"),
        ("{\"prompt\": \"a\", \"container\": \"avi\"}", "container_unknown", "container"),
        ("{\"prompt\": \"a\", \"output_type\": \"pil\"}", "output_type_unknown", "output_type"),
        ("{\"prompt\": \"a\", \"step_cache\": \"deepcache\"}", "step_cache_unknown", "step_cache"),
        (
            "{\"prompt\": \"a\", \"step_cache\": \"pab\", \"step_cache_range\": 1}", "step_cache_range_out_of_range",
            "step_cache_range"
        ),
        ("{\"prompt\": \"a\", \"seed\": -1}", "seed_out_of_range", "seed"),
        ("{\"prompt\": \"a\", \"model\": \"sora-2\"}", "model_unknown", "model"),
        ("{\"prompt\": \"a\", \"input_reference\": \"x\"}", "unknown_field", "input_reference"),
    ]

    @Test("every wrong body is 400 with its code and field, in OpenAI's form, and submits nothing")
    func wrongBodies() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            for (body, code, param) in Self.bodies {
                let answer = try await client.create(body)
                #expect(answer.status == .badRequest, "\(body)")
                let error = try answer.decoded(ReadError.self).error
                #expect(error.code == code, "\(body)")
                #expect(error.param == param, "\(body)")
                #expect(error.type == "invalid_request_error")
                #expect(answer.text.contains("\"param\":"), "param is there even when null")
                #expect(!error.message.isEmpty)
            }
            #expect(try await client.create(#"{"prompt": "a boat"}"#).status == .ok)
        }
        #expect(await fixture.service.submitted.count == 1)
    }

    @Test("bodies of another kind, too large or malformed are refused before they are read")
    func wrongKinds() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            func post(_ type: String?, _ body: String) async throws -> TestResponse {
                var headers = HTTPFields()
                headers[.contentType] = type
                return try await client.execute(
                    uri: "/v1/videos", method: .post, headers: headers, body: ByteBuffer(string: body)
                ) { $0 }
            }
            for type in [nil, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
                let answer = try await post(type, #"{"prompt": "a"}"#)
                #expect(answer.status == .unsupportedMediaType)
                #expect(try answer.code() == "content_type_unsupported")
            }
            let large = try await post("application/json", "{\"prompt\": \"\(String(repeating: "x", count: 70_000))\"}")
            #expect(large.status == .contentTooLarge)
            #expect(try large.code() == "body_too_large")
            let open = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na"
            let wrongForms = [
                ("multipart/form-data", open + "\r\n--b--"), ("multipart/form-data; boundary=b", open),
                ("multipart/form-data; boundary=b", "--b--"), ("multipart/form-data; boundary=b", ""),
                ("multipart/form-data; boundary=b", "--b\r\nContent-Type: text/plain\r\n\r\na\r\n--b--"),
                ("multipart/form-data; boundary=b", "--b\r\nno end of headers\r\n--b--"),
            ]
            for (type, body) in wrongForms {
                let answer = try await post(type, body)
                #expect(answer.status == .badRequest, "\(body)")
                #expect(["form_malformed", "prompt_missing"].contains(try answer.code()), "\(body)")
            }
            let file =
                "--b\r\nContent-Disposition: form-data; name=\"prompt\"; filename=\"a.png\"\r\n\r\nx\r\n--b--\r\n"
            #expect(try await post("multipart/form-data; boundary=b", file).code() == "file_unsupported")
            let fine = try await post("Application/JSON; charset=utf-8", #"{"prompt": "a"}"#)
            #expect(fine.status == .ok)
        }
    }

    @Test("unknown routes, jobs, pages and variants are told apart")
    func wrongPaths() async throws {
        let fixture = try GatewayFixture()
        try await fixture.test { client in
            let job = try await client.create(#"{"prompt": "a"}"#).video().id
            let long = String(repeating: "v", count: 300)
            let cases: [(path: String, status: HTTPResponse.Status, code: String)] = [
                ("/v2/videos", .notFound, "route_not_found"),
                ("/v1/videos/\(job)/remix", .notFound, "route_not_found"),
                ("/v1/videos/video_0", .notFound, "job_not_found"),
                ("/v1/videos/\(long)", .notFound, "job_not_found"),
                ("/v1/videos/video_0/content", .notFound, "job_not_found"),
                ("/v1/videos/video_0/events", .notFound, "job_not_found"),
                ("/v1/videos?limit=0", .badRequest, "limit_out_of_range"),
                ("/v1/videos?limit=101", .badRequest, "limit_out_of_range"),
                ("/v1/videos?limit=ten", .badRequest, "limit_out_of_range"),
                ("/v1/videos?order=asc", .badRequest, "order_unsupported"),
                ("/v1/videos?after=\(long)", .badRequest, "after_invalid"),
                ("/v1/videos?after=video_0", .notFound, "job_not_found"),
                ("/v1/videos/\(job)/content?variant=poster", .badRequest, "variant_unknown"),
            ]
            for (path, status, code) in cases {
                let answer = try await client.get(path)
                #expect(answer.status == status, "\(path)")
                #expect(try answer.code() == code, "\(path)")
            }
            #expect(try await client.delete("/v1/videos/video_0").status == .notFound)
            let put = try await client.execute(uri: "/v1/videos", method: .put, headers: [:], body: nil) { $0 }
            #expect(put.status == .notFound)
        }
    }

    @Test(
        "failures of the broker have the status that tells a client what to do",
        arguments: [
            ("broker_unreachable", 503, "server_error"), ("ledger_full", 503, "server_error"),
            ("overloaded", 429, "rate_limit_error"), ("something_new", 500, "server_error"),
        ])
    func brokerFailures(code: String, status: Int, type: String) async throws {
        let fixture = try GatewayFixture()
        await fixture.service.fail(with: Failure(code, "The broker says no."))
        try await fixture.test { client in
            let answer = try await client.create(#"{"prompt": "a"}"#)
            #expect(answer.status.code == status)
            let error = try answer.decoded(ReadError.self).error
            #expect(error.code == code && error.type == type)
            #expect((answer.header("Retry-After") != nil) == (status == 503 || status == 429))
        }
    }

    @Test("a full broker's estimate becomes Retry-After, in whole seconds")
    func retryAfter() async throws {
        let fixture = try GatewayFixture()
        var failure = Failure("quota", "Two jobs of this tenant are waiting.")
        failure.retryAfterMilliseconds = 4200
        await fixture.service.fail(with: failure)
        try await fixture.test { client in
            let answer = try await client.create(#"{"prompt": "a"}"#)
            #expect(answer.status == .tooManyRequests && answer.header("Retry-After") == "5")
        }
    }

    @Test("an API key is a tenant, its text goes no further, and a priority is a whole number")
    func tenantsAndPriorities() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let body = #"{"prompt": "a"}"#, priority = try #require(HTTPFields.Element.Name("Zoetrope-Priority"))
            for headers: HTTPFields in [
                [:], [.authorization: "Bearer one"], [.authorization: "Bearer two", priority: "-7"],
                [.authorization: "Bearer one"],
            ] {
                #expect(try await client.create(body, headers: headers).status == .ok)
            }
            for wrong in ["high", "101", "1.5"] {
                let answer = try await client.create(body, headers: [priority: wrong])
                #expect(answer.status == .badRequest)
                #expect(try answer.code() == "priority_invalid")
            }
        }
        let submitted = await fixture.service.submitted
        #expect(submitted.map(\.priority) == [0, 0, -7, 0])
        #expect(submitted[0].tenant.isEmpty && submitted[1].tenant == submitted[3].tenant)
        #expect(Set(submitted.map(\.tenant)).count == 3)
        #expect(submitted.allSatisfy { !$0.tenant.contains("one") && $0.tenant.utf8.count <= 16 })
    }

    @Test("a deadline is a number of seconds, and one that cannot be kept is refused with the estimate")
    func deadlines() async throws {
        let fixture = try GatewayFixture()
        let deadline = try #require(HTTPFields.Element.Name("Zoetrope-Deadline"))
        try await fixture.testLive { client in
            let body = #"{"prompt": "a"}"#
            #expect(try await client.create(body, headers: [deadline: "90.5"]).status == .ok)
            #expect(try await client.create(body).status == .ok)
            for wrong in ["soon", "0", "-1", "nan", "1e9"] {
                let answer = try await client.create(body, headers: [deadline: wrong])
                #expect(answer.status == .badRequest, "\(wrong)")
                #expect(try answer.code() == "deadline_invalid")
            }
            await fixture.service.fail(
                with: Failure("deadline_unreachable", "the job would be ready in about 300 s, its deadline is in 60 s"))
            let late = try await client.create(body, headers: [deadline: "60"])
            #expect(late.status.code == 422)
            #expect(try late.code() == "deadline_unreachable")
            #expect(late.text.contains("about 300 s"))
        }
        #expect(await fixture.service.submitted.map(\.deadlineMilliseconds) == [90_500, 0])
    }

    @Test("a page of another site may not start or stop jobs")
    func foreignOrigin() async throws {
        let fixture = try GatewayFixture()
        try await fixture.testLive { client in
            let foreign = try await client.create(#"{"prompt": "a"}"#, headers: [.origin: "http://evil.example"])
            #expect(foreign.status == .forbidden)
            #expect(try foreign.code() == "origin_forbidden")
            #expect(try await client.get("/v1/videos", headers: [.origin: "http://evil.example"]).status == .ok)
        }
        #expect(await fixture.service.submitted.isEmpty)
    }

    @Test("addresses beyond this machine need --insecure")
    func listenAddresses() throws {
        for text in ["127.0.0.1:8080", "localhost:0", "[::1]:8080", "127.1.2.3:1"] {
            let address = try ListenAddress(parsing: text)
            #expect(address.description == text)
            #expect(throws: Never.self) { try address.checkReach(insecure: false) }
        }
        for text in ["0.0.0.0:8080", "192.168.1.2:80", "[::]:8080", "example.org:80", "127.0.0.1.evil.org:80"] {
            let address = try ListenAddress(parsing: text)
            #expect(throws: Failure.self) { try address.checkReach(insecure: false) }
            #expect(throws: Never.self) { try address.checkReach(insecure: true) }
        }
        for text in ["8080", ":8080", "host:", "host:99999", "::1:8080", ""] {
            #expect(throws: Failure.self) { try ListenAddress(parsing: text) }
        }
    }
}
