-- A module for nginx: opens tokens of AES-256-GCM, base64url of nonce, ciphertext and tag, whose text is "organisation user e-mail
-- end". The cipher is that of the library which nginx is linked with; what is needed of it is made once for each worker.
local ffi = require "ffi"
local decode = require("ngx.base64").decode_base64url

ffi.cdef [[
  typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
  typedef struct evp_cipher_st EVP_CIPHER;
  EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
  int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *, int, int, void *);
  const EVP_CIPHER *EVP_aes_256_gcm(void);
  int EVP_DecryptInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const char *, const char *);
  int EVP_DecryptUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const char *, int);
  int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *, unsigned char *, int *);
]]
local crypto = ffi.C
local NONCE, TAG, MOST, SET_TAG = 12, 16, 1024, 0x11
local context, aes = crypto.EVP_CIPHER_CTX_new(), crypto.EVP_aes_256_gcm()
local text, length, rest = ffi.new("unsigned char[?]", MOST + 32), ffi.new("int[1]"), ffi.new("int[1]")
local tag = ffi.new("char[?]", TAG)

-- The text of a sealed token; nil if it is not good.
local function open(key, token)
  local sealed = decode(token)
  if not sealed or #sealed < NONCE + TAG or #sealed > MOST then return nil end
  local ciphertext = sealed:sub(NONCE + 1, -TAG - 1)
  ffi.copy(tag, sealed:sub(-TAG), TAG)
  local is_good = crypto.EVP_DecryptInit_ex(context, aes, nil, key, sealed:sub(1, NONCE)) == 1
    and crypto.EVP_DecryptUpdate(context, text, length, ciphertext, #ciphertext) == 1
    and crypto.EVP_CIPHER_CTX_ctrl(context, SET_TAG, TAG, tag) == 1
    and crypto.EVP_DecryptFinal_ex(context, text + length[0], rest) == 1
  return is_good and ffi.string(text, length[0]) or nil
end

local M = {}

-- The function that admits requests whose token is good, and tells the upstream whose it is.
function M.checker(hexadecimal)
  local key = hexadecimal:gsub("..", function(byte) return string.char(tonumber(byte, 16)) end)
  return function()
    local token = (ngx.var.http_authorization or ""):match("^Bearer ([%w_-]+)$")
    local opened = token and open(key, token)
    local org, user, email, ends
    if opened then org, user, email, ends = opened:match("^(%S+) (%S+) (%S+) (%d+)$") end
    if not ends or tonumber(ends) < ngx.time() then return ngx.exit(401) end
    ngx.req.set_header("X-Org", org)
    ngx.req.set_header("X-Forwarded-User", user)
    ngx.req.set_header("X-Forwarded-Email", email)
  end
end

return M
