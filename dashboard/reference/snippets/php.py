"""PHP, with its curl extension."""

from __future__ import annotations

from django.utils.translation import gettext_noop

from dashboard.reference.snippets.form import Form

PHP = (
    Form(
        "chat",
        gettext_noop("Ask, with retries and errors"),
        "chat.php",
        gettext_noop("Every try sends the same Idempotency-Key, so a message is charged once."),
        r"""
<?php
// PHP 8 with the curl extension.
const API_URL = '«BASE_URL»/api';
const API_KEY = '«API_KEY»'; // keep it in an environment variable

function ask(string $message, string $sessionId, array $page = []): string
{
    $idempotencyKey = bin2hex(random_bytes(16));
    for ($attempt = 1; ; $attempt++) {
        $headers = [];
        $request = curl_init(API_URL . '/chat');
        curl_setopt_array($request, [
            CURLOPT_HTTPHEADER => [
                'X-API-Key: ' . API_KEY,
                'Content-Type: application/json',
                'Idempotency-Key: ' . $idempotencyKey,
            ],
            CURLOPT_POSTFIELDS => json_encode([
                'message' => $message,
                'session_id' => $sessionId,
                'metadata' => (object) $page,
            ]),
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => 90,
            CURLOPT_HEADERFUNCTION => function ($request, string $line) use (&$headers): int {
                [$name, $value] = explode(':', $line, 2) + [1 => ''];
                $headers[strtolower($name)] = trim($value);
                return strlen($line);
            },
        ]);
        $body = curl_exec($request);
        if ($body === false) {
            throw new RuntimeException(curl_error($request));
        }
        $status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
        $answer = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
        if ($status === 200) {
            return $answer['reply'];
        }
        $wait = (int) ($headers['retry-after'] ?? $attempt);
        $mayPass = in_array($status, [409, 429, 500, 503], true)
            && ($headers['x-should-retry'] ?? '') !== 'false';
        if (!$mayPass || $wait > 30 || $attempt === 3) {
            error_log("$status {$answer['code']}: {$answer['error']} ({$answer['request_id']})");
            return $answer['fallback_reply'] ?? 'Sorry, I cannot answer right now.';
        }
        sleep($wait);
    }
}

// One session id for each visitor, made by your backend: it is one conversation.
$sessionId = 'visitor-' . bin2hex(random_bytes(16));
$page = ['url' => 'https://example.com/pricing', 'title' => 'Pricing'];
echo ask('Hello! What can you do?', $sessionId, $page), "\n";
echo ask('Tell me more.', $sessionId, $page), "\n";
""",
    ),
    Form(
        "stream",
        gettext_noop("Stream the answer"),
        "stream.php",
        gettext_noop(
            "A failure before the first word is a plain JSON error; later it is an error event."
        ),
        r"""
<?php
// PHP 8 with the curl extension.
$buffer = '';
$request = curl_init('«BASE_URL»/api/chat');
curl_setopt_array($request, [
    CURLOPT_HTTPHEADER => ['X-API-Key: «API_KEY»', 'Content-Type: application/json'],
    CURLOPT_POSTFIELDS => json_encode([
        'message' => 'Hello! What can you do?',
        'session_id' => 'visitor-' . bin2hex(random_bytes(16)),
        'stream' => true,
    ]),
    CURLOPT_WRITEFUNCTION => function ($request, string $chunk) use (&$buffer): int {
        $buffer .= $chunk;
        if (curl_getinfo($request, CURLINFO_RESPONSE_CODE) !== 200) {
            return strlen($chunk);
        }
        $events = explode("\n\n", $buffer);
        $buffer = array_pop($events); // not whole yet
        foreach ($events as $event) {
            // Comment lines, which keep silent connections open, have no data.
            if (!preg_match('/^event: (.*)\ndata: (.*)$/', $event, $found)) {
                continue;
            }
            $data = json_decode($found[2], true);
            if ($found[1] === 'delta') {
                echo $data['text'];
                flush();
            } elseif ($found[1] === 'done') {
                echo "\n\n{$data['credits']['charged']} credits\n";
            } else {
                error_log("{$data['code']}: {$data['error']}");
            }
        }
        return strlen($chunk);
    },
]);
if (curl_exec($request) === false) {
    throw new RuntimeException(curl_error($request));
}
$status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
if ($status !== 200) {
    $problem = json_decode($buffer, true);
    throw new RuntimeException("$status {$problem['code']}: {$problem['error']}");
}
""",
    ),
    Form(
        "history",
        gettext_noop("Read and erase a conversation"),
        "history.php",
        gettext_noop("Costs nothing. Erased text is gone for good."),
        r"""
<?php
// PHP 8 with the curl extension.
function send(string $method): array
{
    $query = http_build_query(['session_id' => 'visitor-1']);
    $request = curl_init('«BASE_URL»/api/history?' . $query);
    curl_setopt_array($request, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => ['X-API-Key: «API_KEY»'],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 30,
    ]);
    $body = curl_exec($request);
    return [curl_getinfo($request, CURLINFO_RESPONSE_CODE), json_decode((string) $body, true)];
}

[$status, $answer] = send('GET');
if ($status !== 200) {
    throw new RuntimeException("$status " . ($answer['error'] ?? 'no answer'));
}
foreach ($answer['messages'] as $message) {
    echo "{$message['created_at']} {$message['role']}: {$message['content']}\n";
}

[$status] = send('DELETE');
echo 'erased: ', $status === 204 ? 'true' : 'false', "\n";
""",
    ),
)
