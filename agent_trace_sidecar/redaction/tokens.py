"""Our own rules for tokens that carry their maker's mark, where the exported set has none or is too strict.

The exported rules ask for exact lengths and checksums, which is right for a scanner that must not cry wolf; a recorder
masks a token that was cut or mistyped as well, since its mark leaves no doubt what it was. The formats are the ones
that their makers publish. A row is: rule, literals of which one is in every match (lower-case), pattern.
"""

from typing import Final, Literal

from agent_trace_sidecar.redaction.rules import Rule

_B: Final = r"(?:^|[^A-Za-z0-9_])"
_E: Final = r"(?:$|[^A-Za-z0-9_])"

_TABLE: Final = (
    ("aws-access-key-id", "akia asia abia acca a3t", rf"{_B}((?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{{16}}){_E}"),
    ("aws-mws-key", "amzn.mws.", r"(amzn\.mws\.[0-9a-fA-F-]{30,40})"),
    ("aws-appsync-key", "da2-", rf"{_B}(da2-[a-z0-9]{{26}}){_E}"),
    (
        "github-token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"(gh[pousr]_[A-Za-z0-9_]{16,255}|github_pat_[A-Za-z0-9_]{20,255})",
    ),
    (
        "gitlab-token",
        "glpat- gldt- glrt- gloas- glsoat- glft- glimt- glagent- glcbt- glptt- glffct- glrtr- glwt- gr1348941",
        rf"{_B}(gl(?:pat|dt|rtr|rt|oas|soat|ft|imt|agent|cbt|ptt|ffct|wt)-[A-Za-z0-9_.-]{{15,300}}|GR1348941[A-Za-z0-9_-]{{16,60}})",
    ),
    ("slack-token", "xox xapp-", r"(xox[abcdeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,250}|xapp-\d-[A-Za-z0-9-]{10,250})"),
    (
        "slack-webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{20,120})",
    ),
    (
        "teams-webhook",
        "webhook",
        r"(?i)(?:office\.com/webhook(?:b2)?|logic\.azure\.com[:\d]*/workflows)/([A-Za-z0-9@/_%&?=.-]{30,300})",
    ),
    ("discord-webhook", "/api/webhooks/", r"/api/webhooks/(\d{15,21}/[A-Za-z0-9_-]{30,90})"),
    (
        "chat-webhook",
        "/v1/spaces/ /robot/send /bot/v2/hook",
        r"(?:spaces/[\w-]+/messages\?key=|access_token=|/hook/)([A-Za-z0-9&=%_-]{20,200})",
    ),
    (
        "openai-key",
        "sk-",
        rf"{_B}(sk-(?:proj|svcacct|admin|None|or-v1|lf)-[A-Za-z0-9_-]{{16,200}}|sk-[A-Za-z0-9]{{32,64}}){_E}",
    ),
    ("anthropic-key", "sk-ant-", rf"{_B}(sk-ant-[a-z0-9]{{3,10}}-[A-Za-z0-9_-]{{16,200}})"),
    ("google-api-key", "aiza", rf"{_B}(AIza[A-Za-z0-9_-]{{30,45}})"),
    ("google-oauth-token", "ya29.", rf"{_B}(ya29\.[A-Za-z0-9_-]{{20,500}})"),
    ("google-oauth-secret", "gocspx-", r"(GOCSPX-[A-Za-z0-9_-]{20,40})"),
    ("google-client-id", ".apps.googleusercontent.com", r"(\d{8,15}-[a-z0-9]{20,40})\.apps\.googleusercontent\.com"),
    ("google-refresh-token", "1//0", rf"{_B}(1//0[A-Za-z0-9_-]{{30,150}})"),
    (
        "stripe-key",
        "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_",
        r"((?:sk|rk)_(?:test|live|prod)_[A-Za-z0-9]{10,200})",
    ),
    ("stripe-webhook-secret", "whsec_", r"(whsec_[A-Za-z0-9+/=]{20,100})"),
    (
        "jwt",
        "eyj",
        rf"{_B}(eyJ[A-Za-z0-9_-]{{10,}}\.(?:eyJ|[A-Za-z0-9_-]{{2}})[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*)*)",
    ),
    ("npm-token", "npm_", rf"{_B}(npm_[A-Za-z0-9]{{30,60}}){_E}"),
    ("pypi-token", "pypi-age", r"(pypi-AgE[A-Za-z0-9_-]{20,500})"),
    ("docker-token", "dckr_", r"(dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,60})"),
    ("artifactory-key", "akc", rf"{_B}(AKC[A-Za-z0-9]{{10,}})(?:$|[^A-Za-z0-9_+/])"),
    ("artifactory-token", "ap", r"(?:^|[\s=:\"'])(AP[0-9A-F][a-zA-Z0-9]{10,})"),
    (
        "discord-token",
        ".",
        r"(?:^|[^A-Za-z0-9_.-])([MNOA][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40})",
    ),
    ("telegram-token", ":aa", rf"{_B}(\d{{8,10}}:AA[A-Za-z0-9_-]{{32,34}}){_E}"),
    ("mailchimp-key", "-us", rf"{_B}([0-9a-f]{{32}}-us\d{{1,2}}){_E}"),
    ("mailgun-key", "key- pubkey-", rf"{_B}((?:pub)?key-[0-9a-f]{{32}}){_E}"),
    ("sendgrid-key", "sg.", rf"{_B}(SG\.[A-Za-z0-9_-]{{16,32}}\.[A-Za-z0-9_-]{{16,64}})"),
    ("sendinblue-key", "xkeysib- xsmtpsib-", r"(x(?:key|smtp)sib-[A-Za-z0-9-]{40,100})"),
    (
        "twilio-key",
        "sk0 sk1 sk2 sk3 sk4 sk5 sk6 sk7 sk8 sk9 ska skb skc skd ske skf",
        rf"{_B}(SK[0-9a-fA-F]{{32}}){_E}",
    ),
    (
        "twilio-sid",
        "ac0 ac1 ac2 ac3 ac4 ac5 ac6 ac7 ac8 ac9 aca acb acc acd ace acf",
        rf"{_B}(AC[0-9a-fA-F]{{32}}){_E}",
    ),
    ("salesforce-token", "00d", rf"{_B}(00D[A-Za-z0-9]{{12,15}}![A-Za-z0-9._-]{{40,260}})"),
    ("square-token", "sq0 eaaa", rf"{_B}(sq0[a-z]{{3}}-[A-Za-z0-9_\\-]{{20,60}}|EAAA[A-Za-z0-9_-]{{50,70}}){_E}"),
    ("facebook-token", "eaac eaab eaad eaam", rf"{_B}(EAA[BCDM][A-Za-z0-9]{{20,400}})"),
    ("shopify-token", "shpat_ shpss_ shpca_ shppa_", r"(shp(?:at|ss|ca|pa)_[0-9a-fA-F]{20,40})"),
    ("woocommerce-key", "'ck_ \"ck_ =ck_ :ck_ 'cs_ \"cs_ =cs_ :cs_", rf"{_B}(c[ks]_[0-9a-f]{{40}}){_E}"),
    ("zapier-hook", "hooks.zapier.com", r"hooks\.zapier\.com/hooks/catch/([\w-]{3,20}/[\w-]{4,40})"),
    (
        "aws-secret-access-key",
        "akia asia",
        r"(?:AKIA|ASIA)[A-Z0-9]{16}(?:[^A-Za-z0-9+/=]|[A-Za-z]{1,12}[^A-Za-z0-9+/=]){1,12}([A-Za-z0-9+/]{40})(?:$|[^A-Za-z0-9+/=])",
    ),
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"(do[opr]_v1_[0-9a-f]{40,70})"),
    ("doppler-token", "dp.", rf"{_B}(dp\.(?:ct|pt|st|sa|scim|audit)\.(?:[\w-]{{2,35}}\.)?[A-Za-z0-9]{{40,44}}){_E}"),
    ("vault-token", "hvs. hvb. hvr. s.ca", rf"{_B}(hv[sbr]\.[A-Za-z0-9_-]{{20,200}}|s\.CAES[A-Za-z0-9_-]{{60,200}})"),
    ("old-vault-token", "s.", rf"(?:^|[\s=:\"'])(s\.[A-Za-z0-9]{{24}}){_E}"),
    ("terraform-token", ".atlasv1.", r"([A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,80})"),
    ("databricks-token", "dapi", rf"{_B}(dapi[0-9a-f]{{32}}(?:-\d)?){_E}"),
    ("huggingface-token", "hf_ api_org_", rf"{_B}((?:hf|api_org)_[A-Za-z0-9]{{30,40}}){_E}"),
    ("groq-key", "gsk_", rf"{_B}(gsk_[A-Za-z0-9]{{40,60}}){_E}"),
    ("perplexity-key", "pplx-", r"(pplx-[A-Za-z0-9]{30,60})"),
    ("replicate-token", "r8_", rf"{_B}(r8_[A-Za-z0-9]{{30,45}}){_E}"),
    ("tavily-key", "tvly-", r"(tvly-(?:dev-|prod-)?[A-Za-z0-9]{20,50})"),
    ("xai-key", "xai-", rf"{_B}(xai-[A-Za-z0-9]{{60,90}}){_E}"),
    ("fireworks-key", "fw_", rf"{_B}(fw_[A-Za-z0-9]{{20,30}}){_E}"),
    ("langsmith-key", "lsv2_", r"(lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10})"),
    ("nvidia-key", "nvapi-", r"(nvapi-[A-Za-z0-9_-]{60,70})"),
    ("pinecone-key", "pcsk_", r"(pcsk_[A-Za-z0-9_]{40,80})"),
    ("linear-key", "lin_api_ lin_oauth_", r"(lin_(?:api|oauth)_[A-Za-z0-9]{30,70})"),
    ("notion-token", "secret_ ntn_", rf"{_B}(secret_[A-Za-z0-9]{{43}}|ntn_[A-Za-z0-9]{{40,50}}){_E}"),
    ("figma-token", "figd_ figo_ figoh_ figor_", r"(fig(?:d|o|oh|or)_[A-Za-z0-9_-]{36,60})"),
    ("airtable-token", "pat", rf"{_B}(pat[A-Za-z0-9]{{14}}\.[0-9a-f]{{64}}){_E}"),
    ("postman-key", "pmak-", r"(PMAK-[0-9a-f]{24}-[0-9a-f]{34})"),
    ("grafana-token", "glsa_ glc_", r"(glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}|glc_[A-Za-z0-9+/=]{32,400})"),
    (
        "newrelic-key",
        "nrak- nraa- nrii- nriq- nrjs- nrra- nral",
        rf"{_B}(NR(?:AK|AA|II|IQ|JS|RA)-[A-Za-z0-9_-]{{18,40}}|[0-9a-z]{{36}}NRAL)",
    ),
    ("sentry-token", "sntrys_ sntryu_", r"(sntry[su]_[A-Za-z0-9+/=_-]{40,300})"),
    ("sentry-dsn", "@o sentry", r"https?://([0-9a-f]{32}(?::[0-9a-f]{32})?)@[\w.-]*(?:sentry|ingest)"),
    ("sonar-token", "squ_ sqp_ sqa_", rf"{_B}(sq[upa]_[0-9a-f]{{40}}){_E}"),
    ("sonar-login", "sonar", r"(?i)sonar[\w.]{0,10}login[\"',\s=:]{1,8}([0-9a-f]{40})"),
    ("sourcegraph-token", "sgp_", rf"{_B}(sgp_(?:[0-9a-fA-F]{{16}}_|local_)?[0-9a-fA-F]{{40}}){_E}"),
    ("dependency-track-key", "odt_", rf"{_B}(odt_[A-Za-z0-9]{{32,50}}){_E}"),
    ("nuget-key", "oy2", rf"{_B}(oy2[a-z0-9]{{43}}){_E}"),
    ("rubygems-key", "rubygems_", r"(rubygems_[0-9a-f]{40,50})"),
    ("crates-token", "crates cargo", r"(?i)(?:crates|cargo)[^\r\n]{0,40}?(cio[A-Za-z0-9]{32})"),
    ("planetscale-token", "pscale_", r"(pscale_(?:tkn|pw|oauth|otkn)_[A-Za-z0-9_.=-]{30,70})"),
    ("supabase-key", "sbp_ sb_secret_", r"(sbp_[0-9a-f]{40}|sb_secret_[A-Za-z0-9_-]{20,50})"),
    ("vercel-token", "vcp_ vci_ vca_ vcr_ vck_", rf"{_B}(vc[piark]_[A-Za-z0-9]{{24,80}}){_E}"),
    ("fly-token", "fm1r_ fm2_ fo1_", r"((?:FlyV1 )?(?:fm1[ar]_|fm2_|fo1_)[A-Za-z0-9+/=_,-]{40,900})"),
    ("cloudflare-key", "v1.0-", r"(v1\.0-[0-9a-f]{24}-[0-9a-f]{146})"),
    ("mapbox-token", "pk.eyj sk.eyj tk.eyj", r"([pst]k\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{15,})"),
    ("twitch-stream-key", "live_", rf"{_B}(live_\d{{7,12}}_[A-Za-z0-9]{{25,35}}){_E}"),
    ("truenas-key", "-", rf"(?:^|[\s\"'\[=])(\d{{1,3}}-[A-Za-z0-9]{{64}}){_E}"),
    ("okta-token", "ssws 00", r"(?:^|[\s\"'=])(00[A-Za-z0-9_-]{40})(?:$|[\s\"'`,;<])"),
    ("age-secret-key", "age-secret-key-1", r"(AGE-SECRET-KEY-1[0-9A-Z]{50,64})"),
    ("azure-client-secret", "q~", r"(?:^|[^A-Za-z0-9_~.-])([A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34})"),
    ("azure-devops-token", "azdo", rf"{_B}([A-Za-z0-9]{{60,84}}AZDO[A-Za-z0-9]{{4}}){_E}"),
    (
        "azure-storage-key",
        "accountkey sharedaccesskey",
        r"(?i)(?:account|sharedaccess)key=([A-Za-z0-9+/]{40,90}={0,2})",
    ),
    ("azure-sas", "sig=", r"[?&;]sig=([A-Za-z0-9%+/=]{30,100})"),
    ("okta-scim", "atatt atctt", r"(AT[AC]TT3[A-Za-z0-9_=.-]{50,250})"),
    ("jenkins-secret", "{aqaaa", r"\{(AQAAA[A-Za-z0-9+/=]{20,200})\}"),
    ("krb5-hash", "$krb5", r"(\$krb5(?:asrep|tgs|pa)\$\d{1,2}\$[^\s\"']{20,})"),
    ("microsoft-hash", ":::", r"(?i)[\w.$-]{1,60}:\d{1,10}:([0-9a-f]{32}:[0-9a-f]{32}):::"),
    (
        "bcrypt-like",
        "{ssha {sha} {smd5} {md5} {sha256} {sha512} {crypt}",
        r"(?i)\{(?:SSHA|SHA|SMD5|MD5|CRYPT)\d*\}([A-Za-z0-9+/=$.]{13,200})",
    ),
    ("wireguard-key", "privatekey presharedkey", r"(?i)(?:private|preshared)key\s{0,4}=\s{0,4}([A-Za-z0-9+/]{43}=)"),
    ("vault-unseal-key", "unseal", r"(?i)unseal(?:[ _-]?key)?[ \d:=]{1,8}([A-Za-z0-9+/]{40,66}={0,2})"),
    ("postgres-scram", "scram-sha-256$", r"(SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=:]+)"),
    ("mysql-hash", "*", r"(?:^|[\s\"'`])(\*[0-9A-F]{40})(?:$|[\s\"'`,;)])"),
    ("ethereum-private-key", "0x", r"(?i)(?:private|priv|secret)[\w\"' ]{0,20}[:=]{1,2}\s{0,3}[\"'`]?(0x[0-9a-f]{64})"),
    ("otpauth", "otpauth://", r"otpauth://[^\s\"'<>]{1,200}?secret=([A-Z2-7a-z]{16,128})"),
    ("json-web-key", '"kty"', r"\\*\"(?:d|p|q|dp|dq|qi|k)\\*\"\s{0,3}:\s{0,3}\\*\"([A-Za-z0-9_-]{20,})"),
    ("bitbucket-token", "atbb bbdc-", rf"{_B}(ATBB[A-Za-z0-9]{{28,40}}|BBDC-[A-Za-z0-9+/@_-]{{40,50}})"),
    ("dropbox-token", "sl.", rf"{_B}(sl\.(?:u\.)?[A-Za-z0-9_-]{{120,}})"),
    ("paypal-braintree-token", "access_token$", r"(access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32})"),
    ("instagram-token", "igqv", r"(IGQV[A-Za-z0-9_-]{30,})"),
    ("heroku-key", "hrku-", r"(HRKU-[A-Za-z0-9_-]{30,70})"),
    ("akamai-token", "akab-", r"(akab-[a-z0-9]{16}-[a-z0-9]{16})"),
    ("asana-token", "0/ 1/ 2/", rf"{_B}([0-2]/\d{{16}}(?:/\d{{16}})?:[0-9a-f]{{32}}){_E}"),
    ("nats-seed", "su sa so sn sc", rf"{_B}(S[UAONCX][A-Z2-7]{{56}}){_E}"),
    ("tencent-key", "akid", rf"{_B}(AKID[A-Za-z0-9]{{32}}){_E}"),
    (
        "yandex-token",
        "y0_ aqvn t1.9eu",
        rf"{_B}(y0_[A-Za-z0-9_-]{{50,70}}|AQVN[A-Za-z0-9_-]{{35,40}}|t1\.9eu[A-Za-z0-9_.=-]{{60,}})",
    ),
    ("firebase-server-key", ":apa91", r"(AAAA[A-Za-z0-9_-]{7}:APA91[A-Za-z0-9_-]{120,150})"),
    ("ppk", "private-lines:", r"(?m)^Private-Lines: \d+\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+(?:Private-MAC: [0-9a-f]+)?)"),
)

_MIXED: Final = frozenset({"old-vault-token"})
_UNPLAIN: Final = frozenset({"artifactory-token", "artifactory-key", "fireworks-key", "vault-token"})


def _judged(rule_id: str) -> Literal["", "mixed", "unplain"]:
    """What a token must look like whose mark is short."""
    if rule_id in _MIXED:
        return "mixed"
    return "unplain" if rule_id in _UNPLAIN else ""


OWN_RULES: Final = tuple(
    Rule(rule_id, pattern, tuple(literals.split()), group=1, judged=_judged(rule_id))
    for rule_id, literals, pattern in _TABLE
)
